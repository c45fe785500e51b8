// Errors keep their kind, and a defect of the native part never ends the process.
'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { kappa, inner, directory, inMemory, failure } = require('./support.cjs')

const { Kappa, KappaError, histogram, cpuInfo } = kappa
const { native } = kappa._test

test('every kind of error that core knows is a class of its own', () => {
  const { thrown } = inner('errors.cjs')
  const codes = native._kinds()
  assert.ok(codes.length >= 18)
  const seen = new Set()
  for (const code of codes) {
    let error
    try {
      native._raise(code)
    } catch (raised) {
      error = thrown(raised)
    }
    const name = code.replace(/(?:^|_)([a-z])/g, (_, letter) => letter.toUpperCase()) + 'Error'
    assert.ok(kappa[name], `no class for ${code}`)
    assert.ok(error instanceof kappa[name] && error instanceof KappaError && error instanceof Error, code)
    assert.equal(error.code, code)
    assert.equal(error.name, name)
    assert.equal(error.operation, 'raise')
    assert.deepEqual(error.context, { code })
    assert.match(error.message, /^raise: raised for a test code=/)
    assert.equal(error.retryable, ['overloaded', 'storage_full', 'unavailable', 'index_building'].includes(code))
    seen.add(kappa[name])
  }
  const exported = Object.values(kappa).filter((value) => value?.prototype instanceof KappaError)
  assert.equal(seen.size, exported.length, 'a class stands for no kind of core')
})

test('a kind that this package does not know is still an error with its code', () => {
  const error = inner('errors.cjs').make({ code: 'of_tomorrow', message: 'x' })
  assert.ok(error instanceof KappaError)
  assert.equal(error.code, 'of_tomorrow')
})

test('an error names what was asked for', async (t) => {
  const db = await inMemory(t)
  const error = await failure(() => db.products.update('none', { price: 1 }))
  assert.ok(error instanceof kappa.NotFoundError)
  assert.equal(error.operation, 'update')
  assert.deepEqual(error.context, { collection: 'products', id: 'none' })
})

test('what a getter of the caller throws comes back as it is', async (t) => {
  const db = await inMemory(t)
  const own = new TypeError('my own')
  const error = await failure(() => db.users.create({ get name() { throw own } }))
  assert.equal(error, own)
  assert.equal(await db.users.count(), 0)
})

/** How each export is reached: through the interface where there is a way. */
function reach(db, path) {
  const opening = () => Kappa.inMemory().then((opened) => opened.close())
  const user = (name, ...given) => () => db.users[name](...given)
  // What a handler meets becomes the error of its task, or is thrown here.
  const run = async (told) => {
    let met
    const worker = db.worker('jobs', async (task, { signal }) => {
      try {
        task.progress(0.5)
        assert.equal(task.cancelled, false)
        await new Promise(setImmediate)
        signal.throwIfAborted()
      } catch (error) {
        met = error
      }
      if (told !== null) throw told
    })
    const ending = worker.wait()
    ending.catch(() => {})
    const { id } = await db.tasks.enqueue('jobs', null, { attempts: 1 })
    try {
      const ended = await Promise.race([db.tasks.wait(id), ending.then(() => undefined)])
      if (ended.error !== (told === null ? null : String(told))) met = inner('errors.cjs').make({ code: 'internal', message: ended.error })
    } finally {
      await worker.stop({ grace: 0 }).catch((error) => {
        met = error
        return worker.stop({ grace: 0 })
      })
    }
    if (met) throw met
  }
  const ran = () => run(null)
  const failing = () => run(new Error('no such user'))
  return {
    open: opening,
    opened: opening,
    connect: () => Kappa.connect('http://127.0.0.1:1', { deadline: 300 }).catch((error) => {
      if (error.code !== 'unavailable') throw error
    }),
    info: () => db.info(),
    ready: () => db.ready(),
    check: () => db.check(),
    close: async () => {
      const other = await Kappa.open(path)
      try {
        await other.close()
      } finally {
        native._panic(null)
        await other.close()
      }
    },
    collections: () => db.collections(),
    collection: () => db.collection('orders'),
    create: user('create', {}, { ttl: 60_000 }),
    createMany: user('create', {}),
    replace: user('replace', 'a', {}),
    update: user('update', 'a', {}),
    delete: user('delete', 'none'),
    get: user('get', 'a'),
    entry: user('entry', 'a'),
    getMany: user('getMany', ['a']),
    count: user('count'),
    getSync: user('getSync', 'a'),
    entrySync: user('entrySync', 'a'),
    getManySync: user('getManySync', ['a']),
    countSync: user('countSync'),
    declare: user('declare', { indexes: ['name'] }),
    dropIndex: async () => {
      await db.users.declare({ indexes: ['other'] })
      return db.users.dropIndex('other')
    },
    describe: user('describe'),
    page: user('page'),
    walk: () => db.users.list().toArray(),
    nextPage: () => db.users.list().toArray(),
    mock: () => db.products.mock(1),
    task: () => db.tasks.get(1),
    taskEnded: async () => {
      const { id } = await db.tasks.enqueue('none')
      await db.tasks.cancel(id)
      return db.tasks.wait(id)
    },
    milliseconds: () => native.milliseconds('5s'),
    work: ran,
    nextJobs: ran,
    stopWorker: ran,
    finishJob: failing,
    finishJobs: ran,
    enqueueEach: () => db.tasks.enqueue('none'),
    jobProgress: ran,
    jobInterrupt: ran,
    jobInterrupted: ran,
    commit: () => db.batch().create('users', {}).commit(),
    changes: () => db.changes({ start: 'oldest' }).next(),
    followed: () => db.changes({ start: 'oldest' }).next(),
    nextChanges: () => db.changes({ start: 'oldest' }).next(),
    histogram: () => histogram(10),
    drawn: () => histogram(10),
    counts: async () => (await histogram(10)).counts,
    svg: async () => (await histogram(10)).toSvg(),
    cpuInfo: () => cpuInfo(),
    version: () => native.version(),
    attach: () => native.attach(() => {}),
    cancel: () => native.cancel(inner('port.cjs').port, 0),
    gather: () => native.gather(inner('port.cjs').port),
    _kinds: () => native._kinds(),
    _raise: () => native._kinds(),
  }
}

test('a panic in any export is an error of that call; the process lives and the next call works', async (t) => {
  const db = await inMemory(t)
  await db.users.create({ id: 'a' })
  const calls = reach(db, directory(t))
  // `end` closes everything that is open here, and `_panic` arms; the rest must be in the table.
  const exported = Object.keys(native).filter((name) => !['end', '_panic', '_raise'].includes(name))
  for (const name of exported) assert.ok(calls[name], `the test does not reach the export ${name}`)

  let reached = 0
  for (const name of exported) {
    for (const part of ['', ':work', ':answer']) {
      native._panic(name + part)
      let error
      try {
        await calls[name]()
      } catch (caught) {
        error = inner('errors.cjs').thrown(caught)
      }
      native._panic(null)
      if (part === '') assert.ok(error, `${name} was not armed: its failpoint has another name`)
      if (error !== undefined) {
        reached += 1
        assert.equal(error.code, 'internal', `${name}${part}: ${error.message}`)
        assert.match(error.message, /panic=armed for a test/)
      }
      await calls[name]()
    }
  }
  assert.ok(reached > 1.5 * exported.length, 'the answers of the calls were not armed')
  assert.deepEqual(await db.users.get('a'), { id: 'a' })
})
