// Every method of the interface, once, with what it answers.
'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { kappa, directory, inMemory, failure } = require('./support.cjs')

const { Kappa, Collection, Products, histogram, cpuInfo } = kappa

test('a product is created, read, changed and deleted', async (t) => {
  const db = await inMemory(t)
  const made = await db.products.create({ title: 'Mate', price: 12.5 })
  assert.deepEqual(made, { id: made.id, title: 'Mate', price: 12.5 })
  assert.deepEqual(await db.products.get(made.id), made)
  assert.deepEqual(db.products.getSync(made.id), made)
  const before = await db.products.entry(made.id)
  assert.deepEqual(before, { value: made, version: before.version })
  assert.deepEqual(db.products.entrySync(made.id), before)

  const dearer = await db.products.update(made.id, { price: 13, old: undefined }, { ifVersion: before.version })
  assert.deepEqual(dearer, { ...made, price: 13 })
  const stale = await failure(() => db.products.replace(made.id, { title: 'x', price: 1 }, { ifVersion: before.version }))
  assert.equal(stale.code, 'version_mismatch')
  assert.deepEqual(await db.products.replace(made.id, { title: 'Yerba', price: 1 }), { id: made.id, title: 'Yerba', price: 1 })

  assert.equal(await db.products.count(), 1)
  assert.equal(db.products.countSync(), 1)
  assert.equal(await db.products.delete(made.id), true)
  assert.equal(await db.products.delete(made.id), false)
  assert.equal(await db.products.get(made.id), null)
  assert.equal(db.products.getSync(made.id), null)
  assert.equal(await db.products.entry(made.id), null)
  assert.equal(db.products.entrySync(made.id), null)
})

test('several documents are read at once, in the order asked', async (t) => {
  const db = await inMemory(t)
  await Promise.all(['a', 'b'].map((id) => db.users.create({ id })))
  const expected = [{ id: 'b' }, null, { id: 'a' }]
  assert.deepEqual(await db.users.getMany(['b', 'none', 'a']), expected)
  assert.deepEqual(db.users.getManySync(['b', 'none', 'a']), expected)
  assert.deepEqual(await db.users.getMany([]), [])
})

test('a write that is repeated with its key happens once', async (t) => {
  const db = await inMemory(t)
  const options = { idempotencyKey: 'once' }
  const first = await db.users.create({ name: 'Ana' }, options)
  assert.deepEqual(await db.users.create({ name: 'Ana' }, options), first)
  assert.equal((await failure(() => db.users.create({ name: 'Luis' }, options))).code, 'conflict')
  assert.equal(await db.users.count(), 1)
})

test('a time to live ends, in milliseconds', async (t) => {
  const db = await inMemory(t)
  const things = await db.collection('things')
  await things.create({ id: 'short' }, { ttl: 1 })
  await things.create({ id: 'long' }, { ttl: 3_600_000 })
  const deadline = Date.now() + 10_000
  while (await things.get('short')) assert.ok(Date.now() < deadline, 'a document of 1 ms is still there')
  assert.deepEqual(await things.get('long'), { id: 'long' })
})

test('a collection is declared, described and listed', async (t) => {
  const db = await inMemory(t)
  const orders = await db.collection('orders', { indexes: ['user', { field: 'number', name: 'by_number', unique: true }] })
  assert.ok(orders instanceof Collection)
  assert.equal(orders.name, 'orders')
  const described = await orders.declare({ ttl: 60_000 })
  assert.equal(described.definition.ttl, 60_000)
  assert.deepEqual(described.definition.indexes.map(({ field, unique }) => [field, unique]), [['user', false], ['number', true]])
  assert.deepEqual(await orders.describe(), described)
  assert.deepEqual((await db.collections()).map(({ name }) => name), ['orders'])

  await orders.create({ id: '1', user: 'ana', number: 1 })
  assert.equal((await failure(() => orders.create({ user: 'ana', number: 1 }))).code, 'already_exists')
  const dropped = await orders.dropIndex('by_number')
  assert.deepEqual(dropped.definition.indexes.map(({ field }) => field), ['user'])
  assert.equal((await failure(() => orders.dropIndex('by_number'))).code, 'not_found')
})

test('a list gives every document over all its pages', async (t) => {
  const db = await inMemory(t)
  const orders = await db.collection('orders', { indexes: ['user', 'n'] })
  for (let n = 0; n < 25; n++) await orders.create({ id: String(n).padStart(2, '0'), user: n % 2 ? 'ana' : 'luis', n })
  const ids = async (options) => (await orders.list(options).toArray()).map(({ n }) => n)
  const all = Array.from({ length: 25 }, (_, n) => n)

  assert.deepEqual(await ids(), all)
  assert.deepEqual(await ids({ pageSize: 4 }), all)
  assert.deepEqual(await ids({ pageSize: 4, reverse: true }), [...all].reverse())
  assert.deepEqual(await ids({ pageSize: 4, limit: 9 }), all.slice(0, 9))
  assert.deepEqual(await ids({ pageSize: 4, limit: 8 }), all.slice(0, 8))
  assert.deepEqual(await ids({ limit: 0 }), [])
  assert.deepEqual(await ids({ index: 'user', equal: 'ana', pageSize: 5 }), all.filter((n) => n % 2))
  assert.deepEqual(await ids({ index: 'n', from: 5, to: 7n }), [5, 6, 7])
  assert.deepEqual(await ids({ index: 'n', equal: null }), [])

  const first = await orders.page({ pageSize: 2 })
  assert.deepEqual(first.items.map(({ value }) => value.n), [0, 1])
  assert.match(first.items[0].version, /^\d+$/)
  assert.deepEqual(await ids({ after: first.cursor }), all.slice(2))
  assert.equal((await orders.list({ after: first.cursor, pageSize: 100 }).page()).cursor, null)
})

// The first pages are smaller than those that were asked for, and each is read beside the one before.
test('a list of many pages gives every document once, whatever its pages hold', async (t) => {
  const db = await inMemory(t)
  const orders = await db.collection('orders', { indexes: ['n'] })
  const all = Array.from({ length: 700 }, (_, n) => n)
  const batch = db.batch()
  for (const n of all) batch.create('orders', { n })
  await batch.commit()
  const listed = async (options) => (await orders.list(options).toArray()).map(({ n }) => n)
  assert.deepEqual(await listed(), all)
  assert.deepEqual(await listed({ pageSize: 1000, index: 'n' }), all)
  assert.deepEqual(await listed({ pageSize: 1000, index: 'n', reverse: true }), [...all].reverse())
  assert.deepEqual(await listed({ pageSize: 1000, limit: 289 }), all.slice(0, 289))
  assert.deepEqual(await listed({ pageSize: 129, index: 'n', from: 100, to: 500 }), all.slice(100, 501))
  for (const pageSize of [0, 1_001]) assert.equal((await failure(() => listed({ pageSize }))).code, 'invalid_input')
})

// Creates are gathered and handed over together: what is called behind them must still come behind them.
test('calls that nobody awaits happen in their order', async (t) => {
  const db = await inMemory(t)
  const orders = await db.collection('orders')
  const made = orders.create({ id: 'a', n: 1 })
  const changed = db.users.create({ id: 'u' }).then(() => 'user')
  const updated = orders.update('a', { n: 2 })
  const again = failure(() => orders.create({ id: 'a' }))
  const other = orders.create({ id: 'b', text: 'line\nbreak\u2028' })
  const removed = orders.delete('a')
  assert.deepEqual(await made, { id: 'a', n: 1 })
  assert.deepEqual(await updated, { id: 'a', n: 2 })
  assert.equal((await again).code, 'already_exists')
  assert.deepEqual([await changed, await removed], ['user', true])
  assert.deepEqual(await orders.get('b'), await other)
  assert.equal(orders.getSync('b').text, 'line\nbreak\u2028')
})

// Whoever asks for several documents before the first has come gets each once, in order, and then the end.
test('a list may be asked ahead', async (t) => {
  const db = await inMemory(t)
  for (let n = 0; n < 5; n++) await db.users.create({ id: String(n) })
  const walk = db.users.list({ pageSize: 2 })[Symbol.asyncIterator]()
  const found = await Promise.all(Array.from({ length: 7 }, () => walk.next()))
  assert.deepEqual(found.map(({ value }) => value?.id), ['0', '1', '2', '3', '4', undefined, undefined])
  assert.deepEqual(found.map(({ done }) => done), [false, false, false, false, false, true, true])
  const left = db.users.list({ pageSize: 2 })[Symbol.asyncIterator]()
  const [first, end] = await Promise.all([left.next(), left.return('over')])
  assert.deepEqual([first, end], [{ done: true, value: undefined }, { done: true, value: 'over' }])
  const wrong = db.users.list({ index: 'none' })[Symbol.asyncIterator]()
  assert.equal((await failure(() => wrong.next())).code, 'not_found')
  assert.deepEqual(await wrong.next(), { done: true, value: undefined })
})

test('leaving a list early leaves nothing behind', async (t) => {
  const db = await inMemory(t)
  for (let n = 0; n < 10; n++) await db.users.create({ n })
  let seen = 0
  for await (const user of db.users.list({ pageSize: 2 })) {
    assert.equal(user.n, seen)
    if (++seen === 3) break
  }
  assert.equal(seen, 3)
})

test('a batch happens whole or not at all', async (t) => {
  const db = await inMemory(t)
  const answers = await db
    .batch()
    .create('orders', { id: '1', total: 12345678901234567890n })
    .create('products', { id: 'p', title: 'Mate', price: 1 })
    .update('orders', '1', { user: 'ana' })
    .replace('products', 'p', { title: 'Yerba', price: 2 }, { ttl: 60_000 })
    .delete('orders', 'none')
    .commit({ idempotencyKey: 'b' })
  assert.deepEqual(answers, [
    { id: '1', total: 12345678901234567890n },
    { id: 'p', title: 'Mate', price: 1 },
    { id: '1', total: 12345678901234567890n, user: 'ana' },
    { id: 'p', title: 'Yerba', price: 2 },
    false,
  ])
  const { version } = await db.products.entry('p')
  const refused = db.batch().create('orders', { id: '2' }).delete('products', 'p', { ifVersion: `${BigInt(version) + 1n}` })
  const error = await failure(() => refused.commit())
  assert.equal(error.code, 'version_mismatch')
  assert.equal(error.context.operation, '1')
  const orders = await db.collection('orders')
  assert.equal(await orders.count(), 1)
  assert.deepEqual(await db.batch().commit(), [])
})

test('changes come in order, from now, from the oldest and from a cursor on', async (t) => {
  const db = await inMemory(t)
  await db.users.create({ id: 'before' })
  const changes = db.changes()
  const waiting = changes.next()
  await db.users.create({ id: 'a', big: 2n ** 64n })
  await db.users.update('a', { name: 'Ana' })
  await db.users.delete('a')
  const { value: created } = await waiting
  assert.equal(created.kind, 'created')
  assert.equal(created.collection, 'users')
  assert.deepEqual(created.document, { id: 'a', big: 2n ** 64n })
  assert.match(created.version, /^\d+$/)
  assert.equal(typeof created.time, 'number')
  const rest = [(await changes.next()).value, (await changes.next()).value]
  assert.deepEqual(rest.map(({ kind, document }) => [kind, document?.name ?? null]), [['updated', 'Ana'], ['deleted', null]])
  await changes.close()
  assert.deepEqual(await changes.next(), { done: true, value: undefined })

  const again = db.changes({ after: created.cursor })
  assert.equal((await again.next()).value.kind, 'updated')
  await again.return()
  for await (const { id } of db.changes({ start: 'oldest' })) {
    assert.equal(id, 'before')
    break
  }
})

test('the feed of a database that is closed ends with the reason', async () => {
  const db = await Kappa.inMemory()
  const changes = db.changes()
  const waiting = failure(() => changes.next())
  await db.close()
  assert.equal((await waiting).code, 'closed')
  assert.equal((await changes.next()).done, true)
})

test('a histogram says what was drawn, and draws itself', async () => {
  const throws = await histogram(20_000, { range: [1, 6], seed: 42 })
  assert.deepEqual(throws.counts, [3252, 3352, 3335, 3326, 3315, 3420])
  assert.equal(throws.count, 20_000)
  assert.deepEqual(throws.range, [1, 6])
  assert.equal(throws.seed, 42)
  assert.equal(throws.method, 'draw')
  assert.equal(typeof throws.elapsedMs, 'number')
  assert.equal(throws.get(6), 3420)
  assert.equal(throws.get(7), undefined)
  assert.match(throws.toSvg(), /^<svg [^]*<\/svg>$/)
  assert.match(throws.toSvg(200, 100), /width="200" height="100"/)
  assert.deepEqual(JSON.parse(JSON.stringify(throws)).counts, throws.counts)

  const sampled = await histogram(9_007_199_254_740_991, { method: 'multinomial', range: [-1, 0], seed: 2n ** 64n - 1n })
  assert.equal(sampled.seed, 2n ** 64n - 1n)
  assert.equal(sampled.counts[0] + sampled.counts[1], 9_007_199_254_740_991)
})

test('made-up products follow their seed and are not stored', async (t) => {
  const db = await inMemory(t)
  assert.ok(db.products instanceof Products)
  const made = await db.products.mock(5, 7)
  assert.equal(made.length, 5)
  assert.deepEqual(await db.products.mock(5, 7), made)
  assert.notDeepEqual(await db.products.mock(5), made)
  assert.equal(await db.products.count(), 0)
})

test('the machine is described with names of this language', () => {
  const info = cpuInfo()
  assert.ok(info.parallelism >= 1)
  assert.equal(typeof info.architecture, 'string')
  assert.ok('logicalCpus' in info && 'total' in info.memory)
})

test('a directory keeps what was written, and one process at a time', async (t) => {
  const path = directory(t)
  const db = await Kappa.open(path, { durability: 'written', view: 'memory', cacheBytes: 1 << 20, deadline: 1_000 })
  const info = await db.info()
  assert.deepEqual([info.durability, info.view, info.recovery], ['written', 'memory', []])
  await db.ready()
  await db.users.create({ id: 'ana' })
  assert.deepEqual(await db.check(), [])
  await db.close()
  await db.close()
  assert.equal((await failure(() => db.users.get('ana'))).code, 'closed')
  assert.equal((await failure(() => db.ready())).code, 'closed')
  assert.equal((await failure(() => db.info())).code, 'closed')
  assert.throws(() => db.users.getSync('ana'), { code: 'closed' })

  const again = await Kappa.open(require('node:url').pathToFileURL(path))
  assert.deepEqual(await again.users.get('ana'), { id: 'ana' })
  await again[Symbol.asyncDispose]()
})

test('options that contradict what can be done are refused at open', async (t) => {
  const path = directory(t)
  for (const [options, code] of [
    [{ durability: 'maybe' }, 'invalid_input'],
    [{ durability: 'replicated' }, 'unsupported'],
    [{ view: 'paper' }, 'invalid_input'],
    [{ segmentBytes: 1 }, 'invalid_input'],
    [{ cacheBytes: -1 }, 'invalid_input'],
    [{ cacheBytes: 1.5 }, 'invalid_input'],
    [{ cacheBites: 1 }, 'invalid_input'],
    [{ numbers: 'some' }, 'invalid_input'],
    [{ networkDisk: 'yes' }, 'invalid_input'],
  ]) {
    const error = await failure(() => Kappa.open(path, options))
    assert.equal(error.code, code, JSON.stringify(options))
  }
  await (await Kappa.open(path, { networkDisk: true })).close()
  assert.equal((await failure(() => Kappa.open(7))).code, 'invalid_input')
  assert.equal((await failure(() => Kappa.open('/dev/null/x'))).code, 'unavailable')
})
