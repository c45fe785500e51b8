// Input that breaks a rule gets a clear error, and nothing of it is stored.
'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { kappa, inMemory, failure } = require('./support.cjs')

const { KappaError, Kappa, histogram } = kappa

const cycle = { id: 'cycle' }
cycle.self = { inside: [cycle] }
// Each level names the one below twice: 2^40 values in forty objects.
let doubling = {}
for (let level = 0; level < 40; level++) doubling = { a: doubling, b: doubling }
const detached = new ArrayBuffer(8)
const view = new Uint8Array(detached)
structuredClone(detached, { transfer: [detached] })

/** Documents that no store may take; `a` holds the offence. */
const DOCUMENTS = {
  'NaN': { a: NaN },
  'infinity': { a: Infinity },
  'negative infinity, deep inside': { a: { b: [{ c: -Infinity }] } },
  'a whole number that has lost digits': { a: 2 ** 53 },
  'a negative one': { a: -(2 ** 53) },
  'one below 1e21': { a: 999999999999999900000 },
  'half of a surrogate pair': { a: '\ud800' },
  'the other half': { a: 'x\udc00y' },
  'half of a pair in a name': { '\ud83d': 1 },
  'a function': { a: () => 1 },
  'a method': { a() {} },
  'a class': { a: class {} },
  'a symbol': { a: Symbol('s') },
  'undefined in an array': { a: [undefined] },
  'a hole in an array': { a: [1, , 3] },
  'an object that contains itself': cycle,
  'an object named 2^40 times': { a: doubling },
  'a map': { a: new Map([[1, 2]]) },
  'a set': { a: new Set([1]) },
  'a weak map': { a: new WeakMap() },
  'a promise': { a: Promise.resolve(1) },
  'a regular expression': { a: /x/ },
  'an error': { a: new Error('x') },
  'a buffer': { a: Buffer.from('abc') },
  'a typed array': { a: new Uint8Array(3) },
  'an empty typed array': { a: new Float64Array(0) },
  'an array buffer': { a: new ArrayBuffer(8) },
  'a detached array buffer': { a: detached },
  'a view of a detached array buffer': { a: view },
  'a shared array buffer': { a: new SharedArrayBuffer(8) },
  'a data view': { a: new DataView(new ArrayBuffer(8)) },
  'a boxed number': { a: new Number(NaN) },
  'a boxed string': { a: new String('x') },
  'a boxed big integer': { a: Object(1n) },
  'a generator': { a: (function* () {})() },
  'a date that is none': { a: new Date(NaN) },
  'a toJSON that gives NaN': { a: { toJSON: () => NaN } },
  'a toJSON that gives a function': { a: { toJSON: () => () => 1 } },
  'a toJSON that gives nothing': { a: { toJSON: () => undefined } },
  'a toJSON that gives itself': { a: { toJSON() { return this } } },
  'a toJSON beside a big integer': { a: [1n, { toJSON: () => new Map() }] },
  'an id that is a number': { id: 1 },
  'an id that is null': { id: null },
  'an empty id': { id: '' },
  'an id with a NUL': { id: 'a\0b' },
  'an id that is too long': { id: 'x'.repeat(257) },
  'text of more than a mebibyte': { a: 'x'.repeat(1 << 20) },
  'more values than a mebibyte holds': { a: Array(1 << 20).fill(1) },
  'more nesting than a reader bears': { a: JSON.parse('['.repeat(40) + ']'.repeat(40)) },
}

/** What is no document at all. */
const NO_DOCUMENTS = {
  'nothing': undefined, 'null': null, 'text': '{}', 'a number': 1, 'a big integer': 1n, 'true': true, 'an array': [],
  'a symbol': Symbol('s'), 'a function': () => ({}), 'a map': new Map(), 'a date': new Date(0), 'a buffer': Buffer.from('{}'),
  'a boxed string': new String('{}'), 'a toJSON that gives text': { toJSON: () => 'x' },
}

const NO_IDS = {
  'nothing': undefined, 'null': null, 'a number': 1, 'a big integer': 1n, 'an object': {}, 'an array': ['a'], 'a symbol': Symbol('s'),
  'half of a surrogate pair': '\ud800', 'a boxed string': new String('a'),
}

async function refused(call, name, db) {
  const error = await failure(call)
  assert.ok(error instanceof KappaError, `${name}: ${error.stack}`)
  assert.ok(['invalid_input', 'too_large'].includes(error.code), `${name}: ${error.code} ${error.message}`)
  assert.ok(error.message.length > 10, name)
  if (db) {
    assert.deepEqual(await db.users.list().toArray(), [{ id: 'a', n: 1 }], `${name}: something was stored`)
  }
}

async function shop(t) {
  const db = await inMemory(t)
  await db.users.create({ id: 'a', n: 1 })
  return db
}

for (const [name, document] of Object.entries(DOCUMENTS)) {
  test(`a document with ${name} is refused`, { timeout: 20_000 }, async (t) => {
    const db = await shop(t)
    await refused(() => db.users.create(document), name, db)
    await refused(() => db.users.replace('a', document), name, db)
    await refused(() => db.users.update('a', document), name, db)
    await refused(() => db.batch().create('users', { id: 'b' }).create('users', document).commit(), name, db)
  })
}

test('what is no document is refused', async (t) => {
  const db = await shop(t)
  for (const [name, value] of Object.entries(NO_DOCUMENTS)) {
    await refused(() => db.users.create(value), name, db)
    await refused(() => db.users.update('a', value), name, db)
    assert.throws(() => db.batch().replace('users', 'a', value).create('users', 1), KappaError, name)
  }
})

test('what is no id is refused', async (t) => {
  const db = await shop(t)
  for (const [name, id] of Object.entries(NO_IDS)) {
    for (const method of ['get', 'entry', 'delete']) await refused(() => db.users[method](id), `${method} ${name}`, db)
    for (const method of ['replace', 'update']) await refused(() => db.users[method](id, {}), `${method} ${name}`, db)
    for (const method of ['getSync', 'entrySync']) assert.throws(() => db.users[method](id), { code: 'invalid_input' }, name)
    await refused(() => db.users.getMany(['a', id]), name, db)
    assert.throws(() => db.batch().delete('users', id), { code: 'invalid_input' }, name)
  }
})

test('options that are unknown or of a wrong type are refused', async (t) => {
  const db = await shop(t)
  const calls = {
    'an unknown option': () => db.users.create({}, { tll: 5 }),
    'options that are text': () => db.users.create({}, 'fast'),
    'options that are a list': () => db.users.create({}, []),
    'a version for a new document': () => db.users.create({}, { ifVersion: '1' }),
    'a version that is a number': () => db.users.update('a', {}, { ifVersion: 1 }),
    'a version that is text of another kind': () => db.users.update('a', {}, { ifVersion: '1.0' }),
    'a time to live that is text': () => db.users.create({}, { ttl: '1h' }),
    'a time to live of a part of a millisecond': () => db.users.create({}, { ttl: 0.5 }),
    'a time to live of nothing': () => db.users.create({}, { ttl: 0 }),
    'a time to live below nothing': () => db.users.create({}, { ttl: -1 }),
    'a time to live without end': () => db.users.create({}, { ttl: Infinity }),
    'a time to live that is huge': () => db.users.create({}, { ttl: 2n ** 70n }),
    'a time to live of a delete': () => db.users.delete('a', { ttl: 5 }),
    'a key that is a number': () => db.users.create({}, { idempotencyKey: 7 }),
    'a key with half of a pair': () => db.users.create({}, { idempotencyKey: '\udfff' }),
    'a key that is empty': () => db.users.create({}, { idempotencyKey: '' }),
    'a signal that is none': () => db.users.create({}, { signal: {} }),
    'a page of nothing': () => db.users.page({ pageSize: 0 }),
    'a page of too much': () => db.users.page({ pageSize: 1_001 }),
    'a page of a fraction': async () => db.users.page({ pageSize: 1.5 }),
    'a limit below zero': async () => db.users.page({ limit: -1 }),
    'a bound without an index': () => db.users.page({ from: 1 }),
    'a bound that is a function': async () => db.users.page({ index: 'n', from: () => 1 }),
    'a bound that is NaN': async () => db.users.page({ index: 'n', equal: NaN }),
    'a cursor of another kind': () => db.users.page({ after: 'x' }),
    'reverse that is text': async () => db.users.page({ reverse: 'yes' }),
    'ids that are text': () => db.users.getMany('ab'),
    'more ids than a call takes': async () => {
      const error = await failure(() => db.users.getMany(Array(1_001).fill('a')))
      assert.equal(error.code, 'too_large')
      throw error
    },
    'a collection with a bad name': () => db.collection('Bad Name'),
    'a collection without a name': () => db.collection(),
    'an index that is a number': () => db.users.declare({ indexes: [1] }),
    'indexes that are text': () => db.users.declare({ indexes: 'name' }),
    'an index with an unknown option': () => db.users.declare({ indexes: [{ field: 'n', sparse: true }] }),
    'an index with an empty field': () => db.users.declare({ indexes: [''] }),
    'a start that is none': async () => db.changes({ start: 'yesterday' }),
    'a start and a cursor': async () => db.changes({ start: 'now', after: 'x' }),
    'a feed cursor of another kind': () => db.changes({ after: 'x' }).next(),
    'a count below zero': () => histogram(-1),
    'a count that is text': () => histogram('many'),
    'a count beyond what a number holds': () => histogram(2n ** 60n),
    'a range that ends before it starts': () => histogram(1, { range: [2, 1] }),
    'a range of one number': () => histogram(1, { range: [1] }),
    'a range of fractions': () => histogram(1, { range: [0.5, 1.5] }),
    'a range that is too wide': () => histogram(1, { range: [0, 2 ** 30] }),
    'a seed below zero': () => histogram(1, { seed: -1n }),
    'a method that is none': () => histogram(1, { method: 'guess' }),
    'no threads': () => histogram(1, { threads: 0 }),
    'more products than can be made up': () => db.products.mock(2 ** 31),
    'a directory with a NUL': () => Kappa.open('a\0b'),
  }
  for (const [name, call] of Object.entries(calls)) {
    const error = await failure(call)
    assert.ok(error instanceof KappaError, `${name}: ${error.stack}`)
    const codes = name === 'a directory with a NUL' ? ['invalid_input', 'unavailable'] : ['invalid_input', 'too_large']
    assert.ok(codes.includes(error.code), `${name}: ${error.code} ${error.message}`)
    assert.deepEqual(await db.users.list().toArray(), [{ id: 'a', n: 1 }], `${name}: something was stored`)
  }
})

test('what looks odd and is well-formed is stored as it is', async (t) => {
  const db = await shop(t)
  class Person { constructor() { this.name = 'Ana' } get shout() { return 'ANA' } }
  const bare = Object.assign(Object.create(null), { x: 1 })
  const given = {
    id: 'odd', nul: 'a\0b', pair: '😀', ['__proto__x']: 1, empty: {}, none: null, left: undefined, person: new Person(), bare,
    date: new Date(0), big: [1n, -(2n ** 70n)], zero: -0, tiny: 5e-324, huge: 1.7976931348623157e308, vast: 1e21, own: { toJSON: () => ({ n: 2n ** 60n }) },
  }
  Object.defineProperty(given, '__proto__', { value: { polluted: true }, enumerable: true })
  const stored = await db.users.create(given)
  assert.deepEqual(Object.keys(stored).includes('left'), false)
  assert.deepEqual(stored.person, { name: 'Ana' })
  assert.equal(stored.date, '1970-01-01T00:00:00.000Z')
  assert.deepEqual(stored.big, [1, -(2n ** 70n)])
  assert.deepEqual(stored.own, { n: 2n ** 60n })
  assert.equal(stored.nul, 'a\0b')
  assert.equal(stored.pair, '😀')
  assert.equal(stored.vast, 1e21)
  assert.ok(Object.hasOwn(stored, '__proto__') && stored.polluted === undefined && {}.polluted === undefined)
  assert.deepEqual(await db.users.get('odd'), stored)
  assert.deepEqual(db.users.getSync('odd'), stored)
})
