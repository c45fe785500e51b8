// Processes and workers end as they would without Kappa: with the same exit code, and with everything acknowledged on disk.
'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const { once } = require('node:events')
const { test } = require('node:test')
const { kappa, directory, run, rounds, server, failure } = require('./support.cjs')

const { Kappa } = kappa
const OPEN = "const { Kappa, histogram } = require('kappa-core'); const path = process.argv[1]; Kappa.open(path).then(async (db) => {"
const END = '})'

/** Runs `code` with a database `db` in `path` of a process of its own. */
const withDatabase = (code, path, more) => run(`${OPEN}${code}${END}`, { args: [path], ...more })

/** Says at the very end whether the database was closed by then. */
const WATCH = `process.on('exit', () => { try { db.users.getSync('none'); console.log('open') } catch (error) { console.log(error.code) } });`

async function ended(t, code, exit, check = () => {}) {
  for (let round = 0; round < rounds; round++) {
    const path = directory(t)
    const result = await withDatabase(WATCH + code, path)
    const what = `round ${round}: ${JSON.stringify(result)}`
    assert.deepEqual([result.exit, result.signal], [exit, null], what)
    const db = await Kappa.open(path)
    try {
      assert.deepEqual(await db.check(), [], what)
      await check(db, result, what)
    } finally {
      await db.close()
    }
    // Not only with the test: a hundred of them fill a disk.
    fs.rmSync(path, { recursive: true })
  }
}

async function clean(db, { stdout }, what) {
  assert.match(stdout, /closed\n$/, what)
  assert.deepEqual((await db.info()).recovery, [], what)
}

test('a script that is done ends, although its database is open and idle', async (t) => {
  await ended(t, "await db.users.create({ id: 'a' }); await db.users.get('a')", 0, async (db, result, what) => {
    assert.deepEqual(await db.users.get('a'), { id: 'a' }, what)
    await clean(db, result, what)
  })
})

test('a script that closed its database ends', async (t) => {
  await ended(t, "await db.users.create({ id: 'a' }); for await (const _ of db.changes({ start: 'oldest' })) break; await db.close()", 0, clean)
})

test('a pending answer keeps the process alive until it is there', async (t) => {
  await ended(t, "db.users.create({ id: 'a' }).then(() => process.stdout.write('durable'))", 0, (_, { stdout }, what) => {
    assert.equal(stdout, 'durableclosed\n', what)
  })
})

test('process.exit with promises pending keeps its exit code, and what was acknowledged', async (t) => {
  const code = `
    await db.users.create({ id: 'acknowledged' })
    for (let n = 0; n < 64; n++) db.users.create({ n }).catch(() => {})
    db.users.list().toArray().catch(() => {}); db.changes().next().catch(() => {}); histogram(10 ** 9).catch(() => {})
    process.exit(7)`
  await ended(t, code, 7, async (db, result, what) => {
    assert.deepEqual(await db.users.get('acknowledged'), { id: 'acknowledged' }, what)
    await clean(db, result, what)
  })
})

test('process.exit on the way through an answer keeps its exit code', async (t) => {
  await ended(t, 'db.users.create({}).then(() => process.exit(5)); for (let n = 0; n < 8; n++) db.users.create({ n })', 5, clean)
})

test('an uncaught exception ends the process with code 1, and the database cleanly', async (t) => {
  const code = "await db.users.create({ id: 'a' }); db.users.create({}); setImmediate(() => { throw new Error('mine') })"
  await ended(t, code, 1, async (db, result, what) => {
    assert.match(result.stderr, /mine/, what)
    assert.deepEqual(await db.users.get('a'), { id: 'a' }, what)
    await clean(db, result, what)
  })
})

test('a rejection that nobody handles ends the process with code 1', async (t) => {
  await ended(t, 'db.users.create(null)', 1, (_, { stderr }, what) => assert.match(stderr, /invalid_input/, what))
})

test('a kill at any time loses nothing that was acknowledged', async (t) => {
  const code = `
    for (let n = 0; ; n++) {
      await Promise.all(Array.from({ length: 16 }, (_, i) => db.users.create({ id: n + '-' + i })))
      process.stdout.write(n + '\\n')
      if (n === 3) process.kill(process.pid, 'SIGKILL')
    }`
  for (let round = 0; round < rounds; round++) {
    const path = directory(t)
    const { signal, stdout } = await withDatabase(code, path)
    assert.equal(signal, 'SIGKILL', `round ${round}: ${stdout}`)
    const acknowledged = stdout.trim().split('\n').length * 16
    const db = await Kappa.open(path)
    assert.ok((await db.users.count()) >= acknowledged, `round ${round}: ${acknowledged} were acknowledged`)
    await db.close()
    fs.rmSync(path, { recursive: true })
  }
})

// Node takes the addon away with the last environment that uses it; threads that outlive it would run into nothing.
const WORKERS = `
  const { Worker } = require('node:worker_threads')
  const path = process.argv[1]
  const how = process.argv[2]
  const rounds = Number(process.argv[3])
  const body = \`
    const { workerData, parentPort } = require('node:worker_threads')
    const { Kappa, histogram } = require('kappa-core')
    Kappa.open(workerData.path).then(async (db) => {
      await db.users.create({ id: workerData.id })
      parentPort.postMessage('ready')
      if (workerData.how === 'idle') setInterval(() => db, 1000)
      if (workerData.how === 'waits') await db.changes().next()
      if (workerData.how === 'busy') for (;;) await Promise.all(Array.from({ length: 32 }, (_, n) => db.users.create({ n })))
      if (workerData.how === 'draws') await histogram(10 ** 10)
      if (workerData.how === 'throws') setImmediate(() => { throw new Error('mine') })
      if (workerData.how === 'exits') { db.users.create({}); process.exit(3) }
    })\`
  const one = (round) => new Promise((resolve, reject) => {
    const worker = new Worker(body, { eval: true, workerData: { path, how, id: 'w' + round } })
    worker.on('message', () => { if (!['throws', 'exits', 'ends'].includes(how)) worker.terminate() })
    worker.on('error', (error) => { if (error.message !== 'mine') reject(error) })
    worker.on('exit', (code) => resolve(code))
  })
  ;(async () => {
    for (let round = 0; round < rounds; round++) console.log(await one(round))
  })()`

for (const [how, code] of [['idle', 1], ['waits', 1], ['busy', 1], ['draws', 1], ['throws', 1], ['exits', 3], ['ends', 0]]) {
  test(`a worker that ${how} with an open database ends, and the next one opens it`, { timeout: 120_000 }, async (t) => {
    const place = directory(t)
    const result = await run(WORKERS, { args: [place, how, String(rounds)], within: 110_000 })
    assert.deepEqual([result.exit, result.signal], [0, null], JSON.stringify(result))
    assert.deepEqual(result.stdout.trim().split('\n'), Array(rounds).fill(String(code)), result.stderr)
    const db = await Kappa.open(place)
    for (let round = 0; round < rounds; round++) assert.ok(await db.users.get(`w${round}`), `round ${round}`)
    await db.close()
  })
}

test('workers and the main thread use Kappa side by side', async (t) => {
  const place = directory(t)
  const code = `
    const { Worker, isMainThread } = require('node:worker_threads')
    const { Kappa } = require('kappa-core')
    const path = require('node:path')
    const work = \`
      const { workerData } = require('node:worker_threads')
      const { Kappa } = require('kappa-core')
      Kappa.open(workerData).then(async (db) => {
        for (let n = 0; n < 50; n++) await db.users.create({ n })
        await db.close()
      })\`
    const places = [0, 1, 2].map((n) => path.join(process.argv[1], String(n)))
    const workers = places.map((place) => new Promise((resolve) => new Worker(work, { eval: true, workerData: place }).on('exit', resolve)))
    Kappa.inMemory().then(async (db) => {
      for (let n = 0; n < 50; n++) await db.users.create({ n })
      const codes = await Promise.all(workers)
      const counts = []
      for (const place of places) {
        const other = await Kappa.open(place)
        counts.push(await other.users.count())
        await other.close()
      }
      console.log(JSON.stringify([codes, counts, db.users.countSync()]))
    })`
  const result = await run(code, { args: [place] })
  assert.equal(result.stdout.trim(), '[[0,0,0],[50,50,50],50]', JSON.stringify(result))
})

test('a database that nobody holds any more is closed by the garbage collector, without waiting on the event loop', async (t) => {
  const code = `
    const { Kappa } = require('kappa-core')
    const path = process.argv[1]
    let db = Kappa.open(path).then((db) => db.users.create({ id: 'a' }))
    db.then(async () => {
      db = undefined
      const deadline = Date.now() + 20_000
      for (;;) {
        gc()
        await new Promise((resolve) => setImmediate(resolve))
        try {
          const again = await Kappa.open(path)
          console.log(JSON.stringify(await again.users.get('a')))
          return again.close()
        } catch (error) {
          if (error.code !== 'locked' || Date.now() > deadline) throw error
        }
      }
    })`
  const result = await run(code, { args: [directory(t)], flags: ['--expose-gc'] })
  assert.equal(result.stdout.trim(), '{"id":"a"}', JSON.stringify(result))
})

// Otherwise a program that starts a worker, or waits for something, and keeps nothing else would end without a word.
test('a database that only a worker or a waiting call is left of stays open', { timeout: 60_000 }, async (t) => {
  const code = `
    const { Kappa } = require('kappa-core')
    const path = process.argv[1]
    const collected = async () => {
      for (let turn = 0; turn < 50; turn++) {
        gc()
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    async function main() {
      await Kappa.open(path).then((db) => { db.worker('work', ({ params }) => params) })
      await collected()
      const db = await Kappa.open(path)
      const { id } = await db.tasks.enqueue('other')
      const waiting = Kappa.open(path).then((db) => db.tasks.wait(id))
      await collected()
      const task = await db.tasks.enqueue('work', 'done')
      const { result } = await db.tasks.wait(task.id, { signal: AbortSignal.timeout(20_000) })
      await db.tasks.cancel(id)
      console.log(result, (await waiting).state, (await db.info()).role)
      process.exit(0)
    }
    main()`
  const result = await run(code, { args: [directory(t)], flags: ['--expose-gc'] })
  assert.equal(result.stdout.trim(), 'done cancelled client', JSON.stringify(result))
})

test('a second process shares the directory, or is told who has it', { timeout: 60_000 }, async (t) => {
  const place = directory(t)
  const db = await Kappa.open(place)
  await db.users.create({ id: 'first' })
  const changes = db.changes()
  const code = `
    const { role, ownerPid } = await db.info()
    const seen = db.changes({ start: 'oldest' })
    await db.users.create({ id: 'second', big: 2n ** 64n })
    const ids = [(await seen.next()).value.id, (await seen.next()).value.id]
    const { code } = await db.users.update('none', {}).catch((error) => error)
    console.log(JSON.stringify([role, ownerPid, db.users.getSync('first'), await db.users.count(), ids, code]))`
  const shared = await withDatabase(code, place)
  const expected = ['client', process.pid, { id: 'first' }, 2, ['first', 'second'], 'not_found']
  assert.equal(shared.stdout.trim(), JSON.stringify(expected), JSON.stringify(shared))
  assert.equal(shared.exit, 0)
  assert.equal((await changes.next()).value.id, 'second')
  assert.deepEqual(db.users.getSync('second'), { id: 'second', big: 2n ** 64n })

  const alone = await run("require('kappa-core').Kappa.open(process.argv[1], { mode: 'owner' })", { args: [place] })
  assert.equal(alone.exit, 1)
  assert.match(alone.stderr, /LockedError/)
  assert.match(alone.stderr, new RegExp(`pid=${process.pid}`))
  await changes.return()
  await db.close()
})

// Were one of these calls to wait on the thread that makes it, a stopped owner would hold up everything else that this
// process serves; here it could not even be told to go on.
test('a client whose owner is stopped goes on with everything else', { timeout: 60_000 }, async (t) => {
  const place = directory(t)
  // It holds the database to its end: one that nobody holds is closed by the garbage collector.
  const owns = `require('kappa-core').Kappa.open(process.argv[1]).then((db) => { console.log('open'); setInterval(() => db, 1e6) })`
  const owner = spawn(process.execPath, ['-e', owns, place], { cwd: __dirname, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(owner, 'exit')
  try {
    await once(owner.stdout, 'data')
    const db = await Kappa.open(place, { mode: 'client', deadline: 20_000 })
    owner.kill('SIGSTOP')
    let calls
    try {
      calls = [db.info(), db.ready(), db.users.create({ id: 'first' })]
    } finally {
      owner.kill('SIGCONT')
    }
    assert.equal((await Promise.all(calls))[0].ownerPid, owner.pid)
    owner.kill('SIGSTOP')
    let changes
    try {
      changes = db.changes()
      calls = db.users.create({ id: 'second' })
    } finally {
      owner.kill('SIGCONT')
    }
    await calls
    assert.equal((await changes.next()).value.id, 'second')
    await changes.return()
    await db.close()
  } finally {
    owner.kill('SIGKILL')
    await ended
  }
})

test('a server is asked as a directory is, and a wrong address is said so', { timeout: 60_000 }, async (t) => {
  const { url, child } = await server(t)
  const db = await Kappa.connect(url, { token: 'secret' })
  assert.equal((await db.info()).ownerPid, child.pid)
  const changes = db.changes({ start: 'oldest' })
  await db.users.create({ id: 'ana', big: 2n ** 64n })
  assert.deepEqual((await changes.next()).value.document, { id: 'ana', big: 2n ** 64n })
  await changes.close()
  await db.close()
  assert.equal((await failure(() => db.users.get('ana'))).code, 'closed')
  for (const [wrong, code] of [['no url', 'invalid_input'], ['https://127.0.0.1:1', 'unsupported'], ['http://127.0.0.1:1', 'unavailable']]) {
    assert.equal((await failure(() => Kappa.connect(wrong, { deadline: 500 }))).code, code, wrong)
  }
  assert.equal((await failure(() => Kappa.connect(url, { mode: 'owner' }))).code, 'invalid_input')
  assert.equal((await failure(() => Kappa.connect(7))).code, 'invalid_input')
})
