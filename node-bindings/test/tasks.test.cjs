// The task queue and its workers: what a handler does, and what happens to a task when its worker does not.
'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { kappa, root, directory, inMemory, inner, run, failure } = require('./support.cjs')

const { taskObject } = inner('tasks.cjs')

const WITHIN = 60_000
const ended = (db, { id }) => db.tasks.wait(id, { signal: AbortSignal.timeout(WITHIN) })

/** Starts node with `args`, and answers the child and its first line. */
async function child(t, args, options) {
  const started = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'], ...options })
  t.after(() => started.kill('SIGKILL'))
  const [line] = await once(started.stdout, 'data')
  return { started, line: line.toString() }
}

// A handler that threw once must run again, and what it threw must be seen by people.
test('failures are retried and told', async (t) => {
  const db = await inMemory(t)
  const worker = db.worker('work', async ({ attempt, maxAttempts, fence, params }) => {
    if (attempt < 3) throw new TypeError(`not yet ${attempt}`)
    return { attempt, maxAttempts, fence, params }
  })
  const params = { big: 12345678901234567890n, camel_case: 1 }
  const task = await db.tasks.enqueue('work', params, { attempts: 3, backoff: '1ms' })
  assert.equal(task.existing, false)
  const done = await ended(db, task)
  assert.deepEqual(done.result, { attempt: 3, maxAttempts: 3, fence: [task.id, 3], params })
  assert.deepEqual(done.failures.map(({ error }) => error), ['TypeError: not yet 1', 'TypeError: not yet 2'])
  assert.equal(await worker.stop(), 0)
  await worker.wait()
})

// Tasks that are many at a time come without the names of their fields: a value must not get another one's name.
test('the values of a task get their names in order', async (t) => {
  const db = await inMemory(t)
  const names = Object.keys(await db.tasks.get((await db.tasks.enqueue('work')).id))
  const values = [...names.keys(), 'last']
  const task = taskObject(values)
  assert.deepEqual([Object.keys(task), Object.values(task)], [[...names, 'existing'], values])
  const running = new kappa.RunningTask({}, values)
  const progress = names.indexOf('progress')
  assert.deepEqual([Object.keys(running), Object.values(running)], [names.toSpliced(progress, 1), values.slice(0, -1).toSpliced(progress, 1)])
  assert.deepEqual(running.fence, [0, 'last'])
})

test('a task is the same wherever it is seen', async (t) => {
  const db = await inMemory(t)
  const enqueued = await db.tasks.enqueue('work', { a_b: 1 })
  const waiting = await db.tasks.get(enqueued.id)
  assert.deepEqual({ ...waiting, existing: false }, enqueued)
  assert.deepEqual([...Object.keys(waiting), 'existing'], Object.keys(enqueued))

  const options = { kind: 'mail', description: 'to ana', priority: 3, delay: 1, attempts: 5, backoff: '1ms', timeout: '50s', unique: 'ana', parent: enqueued.id }
  const { id } = await db.tasks.enqueue('full', { b_c: 2n ** 60n }, options)
  const seen = new Promise((resolve, reject) => db.worker('full', async (task) => {
    if (task.redrives === 0) throw task.attempt === 1 ? new Error('once more') : new kappa.Discard('no more')
    await db.tasks.get(id).then((found) => resolve([{ ...task }, found]), reject)
  }))
  assert.equal((await ended(db, { id })).state, 'failed')
  assert.equal(await db.tasks.redrive('full'), 1)
  const [running, { progress: _, ...found }] = await seen
  assert.deepEqual(running, found)
  const { kind, description, priority, maxAttempts, timeout, unique, parent, redrives, failures } = running
  assert.deepEqual([kind, description, priority, maxAttempts, timeout, unique, parent, redrives], ['mail', 'to ana', 3, 5, 50_000, 'ana', enqueued.id, 1])
  assert.notDeepEqual(failures, [])
})

// Calls of one turn are handed over together: one that is refused must not take the others with it.
test('one bad task among others made at the same time is refused alone', async (t) => {
  const db = await inMemory(t)
  await db.tasks.configure('short', { maxLength: 1 })
  const calls = [
    db.tasks.enqueue('work', 1), db.tasks.enqueue('bad name', 2), db.tasks.enqueue('work', 12345678901234567890n),
    db.tasks.enqueue('short', 4), db.tasks.enqueue('short', 5), db.tasks.enqueue('work', 6),
  ]
  const results = await Promise.allSettled(calls)
  const seen = results.map(({ value, reason }) => value?.params ?? reason.code)
  assert.deepEqual(seen, [1, 'invalid_input', 12345678901234567890n, 4, 'overloaded', 6])
  assert.deepEqual((await db.tasks.queue('work')).waiting, 3)
})

test('what cannot succeed is a dead letter', async (t) => {
  const db = await inMemory(t)
  const worker = db.worker('work', ({ params }) => {
    if (params === 'discard') throw new kappa.Discard('no such user')
    return () => {}
  })
  const discarded = await ended(db, await db.tasks.enqueue('work', 'discard', { attempts: 5 }))
  assert.deepEqual([discarded.state, discarded.attempt, discarded.error], ['failed', 1, 'no such user'])
  const unwritable = await ended(db, await db.tasks.enqueue('work', null, { attempts: 1 }))
  assert.equal(unwritable.state, 'failed')
  await worker.stop()
  assert.equal(await db.tasks.redrive('work'), 2)
})

test('a running task is told that it was cancelled', async (t) => {
  const db = await inMemory(t)
  let began
  const beginning = new Promise((resolve) => { began = resolve })
  const worker = db.worker('work', async (task, { signal }) => {
    began()
    await once(signal, 'abort')
    assert.deepEqual([task.cancelled, task.interrupt], [true, 'cancelled'])
    signal.throwIfAborted()
  })
  const task = await db.tasks.enqueue('work')
  await beginning
  assert.equal((await db.tasks.cancel(task.id)).changed, true)
  assert.equal((await ended(db, task)).state, 'cancelled')
  await worker.stop()
})

// Otherwise one stuck run would hold its task for ever, or its late result would overwrite that of the next.
test('a run that takes too long is given up, and its late result refused', async (t) => {
  const db = await inMemory(t)
  let late = 0
  const worker = db.worker('work', async ({ attempt }, { signal }) => {
    if (attempt > 1) return 'in time'
    await once(signal, 'abort')
    late = attempt
    return 'late'
  }, { concurrency: 2 })
  const done = await ended(db, await db.tasks.enqueue('work', null, { timeout: 300, backoff: 1, attempts: 20 }))
  await worker.stop()
  await worker.wait()
  assert.deepEqual([done.result, late], ['in time', 1])
  // A machine that is busy for a moment may keep also the second run from being told in time.
  assert.ok(done.attempt >= 2)
})

// A deployment must neither lose a task nor use up its attempts.
test('a graceful stop hands tasks back', async (t) => {
  const db = await inMemory(t)
  let began
  const beginning = new Promise((resolve) => { began = resolve })
  const worker = db.worker('work', async (task, { signal }) => {
    began()
    await once(signal, 'abort')
  })
  const tasks = await db.tasks.enqueueMany([{ queue: 'work' }, { queue: 'work' }])
  await beginning
  assert.equal(await worker.stop({ grace: 0 }), 1)
  await worker.wait()
  for (const { id } of tasks) {
    const { state, attempt } = await db.tasks.get(id)
    assert.deepEqual([state, attempt], ['waiting', 0])
  }
})

// Runs of one turn are reported together at its end: one that ended before a stop must not be handed back and run again.
test('a run that has ended counts although its worker is stopped in the same turn', async (t) => {
  const db = await inMemory(t)
  let stopped
  const stopping = new Promise((resolve) => { stopped = resolve })
  const worker = db.worker('work', async () => {
    const stop = async () => {
      for (let n = 0; n < 20; n++) await null
      stopped(worker.stop({ grace: 0 }))
      // The turn does not end before the stop has handed back what it finds.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
    }
    stop()
    return 'done'
  })
  const { id } = await db.tasks.enqueue('work')
  assert.equal(await stopping, 0)
  const { state, result, attempt } = await db.tasks.get(id)
  assert.deepEqual([state, result, attempt], ['completed', 'done', 1])
})

// What one operation has no room for takes several: they must be counted together, and not go beyond what was asked for.
test('a redrive, a list and a drain go on to their end and no further', async (t) => {
  const db = await inMemory(t)
  const description = 'd'.repeat(4096)
  const added = await db.tasks.enqueueMany(Array.from({ length: 120 }, () => ({ queue: 'work', description })))
  const worker = db.worker('work', () => { throw new kappa.Discard('never') }, { concurrency: 20 })
  for (const task of added) assert.equal((await ended(db, task)).state, 'failed')
  await worker.stop()
  assert.equal(await db.tasks.redrive('work', { limit: 70 }), 70)
  assert.equal(await db.tasks.redrive('work'), 50)
  const listed = []
  for await (const { id } of db.tasks.list({ queue: 'work', pageSize: 2, limit: 5 })) listed.push(id)
  assert.equal(new Set(listed).size, 5)
  await db.tasks.drain('work')
  const { waiting, cancelled } = await db.tasks.queue('work')
  assert.deepEqual([waiting, cancelled], [0, 120])
})

// A task whose document does not exist, or a document that nobody works on, must not come about.
test('a batch enqueues with its documents', async (t) => {
  const db = await inMemory(t)
  const [document, task] = await db.batch().create('orders', { id: 'o1' }).enqueue('mail', { order: 'o1' }, { priority: 5 }).commit()
  assert.deepEqual([document.id, task.queue, task.priority, task.existing, task.maxAttempts], ['o1', 'mail', 5, false, 5])
  const refused = await failure(() => db.batch().enqueue('mail', {}).create('orders', { id: 'o1' }).commit())
  assert.equal(refused.code, 'already_exists')
  assert.equal((await db.tasks.queue('mail')).waiting, 1)
})

test('queues and schedules are set and listed', async (t) => {
  const db = await inMemory(t)
  const { settings } = await db.tasks.configure('mail', { rate: { count: 5, per: '1m' }, keep: 1000, maxLength: 2, retryBudget: { percent: 20 } })
  assert.deepEqual([settings.rate, settings.keep, settings.maxLength], [{ count: 5, per: 60_000 }, 1000, 2])
  assert.deepEqual(settings.retryBudget, { percent: 20, perSecond: 10 })
  assert.equal((await db.tasks.pause('mail')).paused, true)
  assert.equal((await db.tasks.resume('mail')).paused, false)
  const first = await db.tasks.enqueue('mail', 1, { unique: 'k', delay: '1h' })
  assert.deepEqual([first.state, (await db.tasks.enqueue('mail', 2, { unique: 'k' })).id], ['delayed', first.id])
  assert.equal((await db.tasks.retry(first.id)).state, 'waiting')
  await db.tasks.enqueue('mail', 3)
  assert.equal((await failure(() => db.tasks.enqueue('mail', 4))).code, 'overloaded')
  const listed = []
  for await (const { params } of db.tasks.list({ queue: 'mail', pageSize: 1 })) listed.push(params)
  assert.deepEqual(listed, [1, 3])
  await db.tasks.drain('mail')
  assert.deepEqual((await db.tasks.queues()).map(({ name, waiting, cancelled }) => [name, waiting, cancelled]), [['mail', 0, 2]])
  assert.equal(await db.tasks.remove(first.id), true)
  assert.equal(await db.tasks.get(first.id), null)
  const { nextAt } = await db.tasks.putSchedule('daily', { cron: '0 3 * * *', timeZone: 'Europe/Berlin', task: { queue: 'mail' } })
  assert.ok(nextAt > 0)
  assert.deepEqual((await db.tasks.schedules()).map(({ schedule }) => [schedule.name, schedule.timeZone]), [['daily', 'Europe/Berlin']])
  assert.equal(await db.tasks.removeSchedule('daily'), true)
})

test('bad input is refused and adds nothing', async (t) => {
  const db = await inMemory(t)
  const cyclic = {}
  cyclic.self = cyclic
  const { tasks } = db
  const calls = [
    () => tasks.enqueue(), () => tasks.enqueue(''), () => tasks.enqueue('bad name'), () => tasks.enqueue(1),
    () => tasks.enqueue('q', NaN), () => tasks.enqueue('q', cyclic), () => tasks.enqueue('q', () => {}), () => tasks.enqueue('q', 'x', 5),
    () => tasks.enqueue('q', 1, { priority: 101 }), () => tasks.enqueue('q', 1, { priority: '1' }), () => tasks.enqueue('q', 1, { prority: 1 }),
    () => tasks.enqueue('q', 1, { delay: -1 }), () => tasks.enqueue('q', 1, { delay: '5 s' }), () => tasks.enqueue('q', 1, { delay: 1.5 }),
    () => tasks.enqueue('q', 1, { delay: 1, dueAt: 1 }), () => tasks.enqueue('q', 1, { dueAt: new Date(NaN) }),
    () => tasks.enqueue('q', 1, { attempts: 0 }), () => tasks.enqueue('q', 1, { backoff: [] }), () => tasks.enqueue('q', 1, { backoff: { base: 1 } }),
    () => tasks.enqueue('q', 1, { timeout: 0 }), () => tasks.enqueue('q', 1, { unique: '' }), () => tasks.enqueue('q', 1, { unique: '\ud800' }),
    () => tasks.enqueue('q', 1, { parent: -1 }), () => tasks.enqueueMany(), () => tasks.enqueueMany(['q']), () => tasks.enqueueMany([{ params: 1 }]),
    () => tasks.enqueueMany([{ queue: 'q' }, { queue: 'q', attempts: 0 }]), () => tasks.get('1'), () => tasks.get(-1), () => tasks.get(2 ** 53),
    () => tasks.page({ state: 'done' }), () => tasks.page({ after: 'nonsense' }), () => tasks.configure('q', { concurrency: 0 }),
    () => tasks.configure('q', { rate: 1 }), () => tasks.configure('q', { rate: { count: 0, per: 1 } }),
    () => tasks.putSchedule('s', { cron: 'every day', task: { queue: 'q' } }), () => tasks.putSchedule('s', { cron: '* * * * *' }),
    () => tasks.putSchedule('s', { cron: '* * * * *', task: { queue: 'q' }, timeZone: 'Nowhere' }),
    () => db.worker('q'), () => db.worker('', () => {}), () => db.worker([], () => {}), () => db.worker('q', () => {}, { concurrency: 0 }),
    () => db.worker('q', () => {}, { lease: 500 }), () => db.worker('q', () => {}, { grace: -1 }), () => db.worker('q', () => {}, { retries: 1 }),
  ]
  for (const call of calls) assert.equal((await failure(async () => call())).code, 'invalid_input', call.toString())
  assert.deepEqual(await db.tasks.queues(), [])
})

// Leases that were renewed by the event loop would be lost here, and another worker would run the task again.
test('an event loop that is blocked longer than the lease costs no second run', async (t) => {
  const blocked = process.env.KAPPA_SOAK ? 60_000 : 2_500
  const { stdout, exit } = await run(`
    const { Kappa } = require('kappa-core')
    async function main() {
      const db = await Kappa.open(process.argv[1])
      let runs = 0
      const worker = db.worker('block', () => {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${blocked})
        return ++runs
      }, { lease: 1000, concurrency: 2 })
      const { id } = await db.tasks.enqueue('block')
      const { result, attempt } = await db.tasks.wait(id)
      await worker.stop()
      await db.close()
      console.log(result, attempt, runs)
    }
    main()
  `, { args: [directory(t)], within: blocked + 30_000 })
  assert.deepEqual([stdout, exit], ['1 1 1\n', 0])
})

const STUCK = `
  const { Kappa } = require('kappa-core')
  Kappa.open(process.argv[1]).then((db) => {
    db.worker('kill', () => { console.log('began'); return new Promise(() => {}) }, { lease: 1000 })
  })
  process.stdin.on('data', () => process.exit(0))
`

for (const [how, result] of [['killed', 2], ['ended', 1]]) {
  test(`a worker that is ${how} loses no task`, async (t) => {
    const data = directory(t)
    const db = await kappa.Kappa.open(data, { mode: 'owner' })
    const task = await db.tasks.enqueue('kill')
    const { started } = await child(t, ['-e', STUCK, data], { cwd: __dirname })
    const exited = once(started, 'exit')
    if (how === 'killed') started.kill('SIGKILL')
    else started.stdin.write('end\n')
    const [code] = await exited
    assert.equal(code, how === 'killed' ? null : 0)
    const worker = db.worker('kill', ({ attempt }) => attempt)
    assert.equal((await ended(db, task)).result, result)
    await worker.stop()
    await db.close()
  })
}

test('the command works until it is told to stop', async (t) => {
  const folder = directory(t)
  const data = path.join(folder, 'data')
  const app = path.join(folder, 'app.mjs')
  fs.writeFileSync(app, `export const queue = { path: ${JSON.stringify(data)}, handlers: { mail: (task) => ({ sent: task.params.to }) } }`)
  const db = await kappa.Kappa.open(data, { mode: 'owner' })
  const { started, line } = await child(t, [path.join(root, 'bin/kappa-worker.mjs'), app])
  assert.match(line, /mail/)
  const task = await db.tasks.enqueue('mail', { to: 'ana' })
  assert.deepEqual((await ended(db, task)).result, { sent: 'ana' })
  const exited = once(started, 'exit')
  started.kill('SIGTERM')
  assert.equal((await exited)[0], 0)
  await db.close()
})
