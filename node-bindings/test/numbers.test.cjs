// Numbers come back as they were, or not at all.
'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { kappa, inner, directory } = require('./support.cjs')

const { Kappa } = kappa
const { parseExactly, jsonText } = inner('text.cjs')

test('whole numbers beyond 2^53 are BigInt, wherever a document is read', async (t) => {
  const path = directory(t)
  const db = await Kappa.open(path)
  const things = await db.collection('things', { indexes: ['n'] })
  const document = { id: 'big', n: 2n ** 64n, list: [1, -(2n ** 53n), { deep: 9007199254740993n }], small: 9007199254740991 }
  const changes = db.changes()
  assert.deepEqual(await things.create(document), document)
  assert.deepEqual(await things.get('big'), document)
  assert.deepEqual(things.getSync('big'), document)
  assert.deepEqual((await things.entry('big')).value, document)
  assert.deepEqual(things.entrySync('big').value, document)
  assert.deepEqual(await things.getMany(['big', 'none']), [document, null])
  assert.deepEqual(things.getManySync(['big']), [document])
  assert.deepEqual(await things.list({ index: 'n', equal: 2n ** 64n }).toArray(), [document])
  assert.deepEqual((await changes.next()).value.document, document)
  await changes.return()
  assert.deepEqual(await things.update('big', { small: 1 }), { ...document, small: 1 })
  assert.deepEqual(await things.replace('big', document), document, 'what was read can be written')
  await db.close()

  const nearest = await Kappa.open(path, { numbers: 'nearest' })
  const same = await nearest.collection('things')
  assert.equal((await same.get('big')).n, 2 ** 64)
  assert.equal(same.getSync('big').n, 2 ** 64)
  assert.equal((await same.page()).items[0].value.n, 2 ** 64)
  await nearest.close()
})

test('numbers of many kinds come back the same', async () => {
  const db = await Kappa.inMemory()
  let seed = 20261121
  console.log(`seed ${seed}`)
  const random = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return seed / 2 ** 32
  }
  const numbers = [0, 1.5, -0.1, 1e21, 1e-7, 5e-324, Number.MAX_VALUE, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER, 0.1 + 0.2]
  for (let n = 0; n < 2_000; n++) numbers.push((random() - 0.5) * 10 ** Math.floor(random() * 600 - 300))
  const whole = (number) => Number.isInteger(number) && !Number.isSafeInteger(number) && Math.abs(number) < 1e21
  const given = numbers.map((number) => (whole(number) ? BigInt(number) : number))
  const { id } = await db.users.create({ given })
  assert.deepEqual((await db.users.get(id)).given, given)
  await db.close()
})

test('text is read with all its digits, or refused', () => {
  const same = ['{"a":[1,2.50,-0.0,1e5,true,null,"12345678901234567890"]}', '"\\"12345678901234567890\\\\"', '{"12345678901234567890":1}']
  for (const text of same) assert.deepEqual(parseExactly(text), JSON.parse(text), text)
  assert.deepEqual(parseExactly('{"a":12345678901234567890,"b":[-98765432109876543210]}'), { a: 12345678901234567890n, b: [-98765432109876543210n] })
  // Texts of a document are not taken for numbers, however they are written.
  const tricky = '{"a":"\\uf8ffwhole:7","b":12345678901234567890,"c":"whole 8","d":"\\u0077hole 9"}'
  assert.deepEqual(parseExactly(tricky), { a: '\u{F8FF}whole:7', b: 12345678901234567890n, c: 'whole 8', d: 'whole 9' })
  for (const number of ['1e400', '-1e400', '0.1234567890123456789', '12345678901234567.5', '1e-400']) {
    const refused = { code: 'unsupported', context: { number }, message: /numbers: 'nearest'/ }
    assert.throws(() => parseExactly(`{"a":${number}}`), refused, number)
  }
})

test('what is written has all its digits', () => {
  assert.equal(jsonText({ a: 2n ** 70n, b: 'x', c: [undefined === 1, null], d: undefined }), `{"a":${2n ** 70n},"b":"x","c":[false,null]}`)
  assert.equal(jsonText({ a: { toJSON: () => ({ b: 1n }) } }), '{"a":{"b":1}}')
})
