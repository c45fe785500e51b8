// What a caller gave up is told so at once, and nothing of it stays behind.
'use strict'

const assert = require('node:assert/strict')
const { getEventListeners } = require('node:events')
const { test } = require('node:test')
const { kappa, directory, inMemory, failure, run } = require('./support.cjs')

const { Kappa, CancelledError, histogram } = kappa

test('a signal that was aborted before stops every call, and nothing is written', async (t) => {
  const db = await inMemory(t)
  const reason = new Error('no time')
  const options = { signal: AbortSignal.abort(reason) }
  const calls = {
    create: () => db.users.create({}, options),
    replace: () => db.users.replace('a', {}, options),
    update: () => db.users.update('a', {}, options),
    delete: () => db.users.delete('a', options),
    get: () => db.users.get('a', options),
    entry: () => db.users.entry('a', options),
    getMany: () => db.users.getMany(['a'], options),
    count: () => db.users.count(options),
    list: () => db.users.list(options).toArray(),
    page: () => db.users.page(options),
    declare: () => db.users.declare({ indexes: ['a'], ...options }),
    dropIndex: () => db.users.dropIndex('a', options),
    describe: () => db.users.describe(options),
    commit: () => db.batch().create('users', {}).commit(options),
    collections: () => db.collections(options),
    ready: () => db.ready(options),
    check: () => db.check(options),
    changes: () => db.changes(options).next(),
    histogram: () => histogram(10, options),
    open: () => Kappa.inMemory(options),
  }
  for (const [name, call] of Object.entries(calls)) {
    const error = await failure(call)
    assert.ok(error instanceof CancelledError, `${name}: ${error.stack}`)
    assert.equal(error.cause, reason, name)
  }
  assert.equal(await db.users.count(), 0)
  assert.deepEqual(await db.collections(), [])
})

// A draw that only its caller has left would keep a processor for an hour, and 64 of them everything.
test('a draw ends within moments of being cancelled', { timeout: 60_000 }, async () => {
  const deadline = Date.now() + 30_000
  let cancelled = 0
  while (cancelled < 100) {
    const controller = new AbortController()
    const drawing = failure(() => histogram(10 ** 13, { signal: controller.signal }))
    setImmediate(() => controller.abort())
    const error = await drawing
    // Those before may need a moment to see that they are cancelled, but not the hour that they would draw.
    assert.ok(Date.now() < deadline, `${cancelled} draws were cancelled`)
    if (error.code === 'overloaded') continue
    assert.ok(error instanceof CancelledError, error.stack)
    assert.equal(error.cause, controller.signal.reason)
    cancelled += 1
  }
  assert.equal((await histogram(1_000)).count, 1_000)
})

test('a reader that waits for changes is told, and the iteration is over', async (t) => {
  const db = await inMemory(t)
  const controller = new AbortController()
  const changes = db.changes({ signal: controller.signal })
  const waiting = failure(() => changes.next())
  setImmediate(() => controller.abort())
  assert.ok((await waiting) instanceof CancelledError)
  assert.deepEqual(await changes.next(), { done: true, value: undefined })
})

test('closing a feed ends the loop that waits in it', async (t) => {
  const db = await inMemory(t)
  const changes = db.changes()
  const seen = []
  const loop = (async () => {
    for await (const change of changes) seen.push(change.id)
  })()
  await db.users.create({ id: 'a' })
  while (seen.length === 0) await new Promise((resolve) => setImmediate(resolve))
  await changes[Symbol.asyncDispose]()
  await loop
  assert.deepEqual(seen, ['a'])
})

test('several readers of one feed are answered in the order they asked', { timeout: 30_000 }, async (t) => {
  const db = await inMemory(t)
  const changes = db.changes()
  const asked = [changes.next(), changes.next(), changes.next()]
  await Promise.all(['a', 'b', 'c', 'd'].map((id) => db.users.create({ id })))
  assert.deepEqual((await Promise.all(asked)).map(({ value }) => value.id), ['a', 'b', 'c'])
  await changes.return()
})

// The feed was opened behind the writes that followed the call: a reader with much to do came to it last.
test('a feed begins where it was asked for, however busy the readers are', { timeout: 30_000 }, async (t) => {
  const db = await inMemory(t)
  for (let n = 0; n < 20; n++) {
    const busy = Promise.all(Array.from({ length: 200 }, () => db.users.count()))
    const changes = db.changes()
    await db.users.create({ id: String(n) })
    assert.equal((await changes.next()).value.id, String(n))
    await changes.return()
    await busy
  }
})

// A change between the look at what is there and the wait for more would be told only with the one behind it.
test('a reader that waits is woken by the next write', { timeout: 30_000 }, async (t) => {
  const db = await inMemory(t)
  const changes = db.changes()
  for (let n = 0; n < 50; n++) {
    const waiting = changes.next()
    // Reads are answered in turn: when these are, the reader has looked and found nothing.
    for (let turn = 0; turn < n % 5; turn++) await db.users.count()
    await db.users.create({ id: String(n) })
    assert.equal((await waiting).value.id, String(n))
  }
  await changes.return()
})

test('a signal that outlives its calls keeps no listener of theirs', async (t) => {
  const db = await inMemory(t)
  const { signal } = new AbortController()
  for (let n = 0; n < 20; n++) {
    await db.users.create({ n }, { signal })
    for await (const _ of db.changes({ start: 'oldest', signal })) break
    await db.users.list({ signal }).toArray()
  }
  assert.deepEqual(getEventListeners(signal, 'abort'), [])
})

// A write that is under way when its caller leaves may still happen; what must not happen is that it blocks or breaks those behind it.
test('writes given up under way leave the database whole', async (t) => {
  const path = directory(t)
  const db = await Kappa.open(path)
  let cancelled = 0
  for (let round = 0; round < 20; round++) {
    const controller = new AbortController()
    const writes = Array.from({ length: 16 }, (_, n) => db.users.create({ id: `${round}-${n}` }, { signal: controller.signal }))
    setImmediate(() => controller.abort())
    for (const { status, reason } of await Promise.allSettled(writes)) {
      if (status === 'rejected') {
        assert.ok(reason instanceof CancelledError, reason?.stack)
        cancelled += 1
      }
    }
  }
  assert.ok(cancelled > 0, 'nothing was under way when it was given up')
  await db.users.create({ id: 'last' })
  assert.deepEqual(await db.users.get('last'), { id: 'last' })
  assert.deepEqual(await db.check(), [])
  await db.close()
})

test('a database whose opening was given up is not left open', async (t) => {
  const path = directory(t)
  const controller = new AbortController()
  const opening = Kappa.open(path, { signal: controller.signal })
  controller.abort()
  assert.ok((await failure(() => opening)) instanceof CancelledError)
  const deadline = Date.now() + 20_000
  for (;;) {
    try {
      // As the owner: anybody else would share what is left open.
      await (await Kappa.open(path, { mode: 'owner' })).close()
      break
    } catch (error) {
      assert.ok(error.code === 'locked' && Date.now() < deadline, error.stack)
    }
  }
})

test('a feed that is waited for and then left does not keep the process alive', async () => {
  const code = `
    const { Kappa } = require('kappa-core')
    Kappa.inMemory().then(async (db) => {
      const changes = db.changes()
      const waiting = changes.next()
      setImmediate(() => changes.close())
      console.log(JSON.stringify(await waiting))
    })`
  const { exit, stdout } = await run(code)
  assert.deepEqual([exit, stdout.trim()], [0, '{"done":true}'])
})
