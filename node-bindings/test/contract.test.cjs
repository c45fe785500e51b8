// The scenarios that every language runs: core/tests/contract/*.json, described in the README beside them.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { inspect } = require('node:util')
const queue = require('./contract_tasks.cjs')
const { inner, inMemory, kappa, server } = require('./support.cjs')

const { parseExactly } = inner('text.cjs')
const contract = process.env.KAPPA_CONTRACT ?? path.join(__dirname, '../../core/tests/contract')
const OTHERS = ['bad_input.json', 'methods.json']
const files = fs.readdirSync(contract).filter((name) => name.endsWith('.json') && !OTHERS.includes(name)).sort()
const load = (name) => parseExactly(fs.readFileSync(path.join(contract, name), 'utf8'))

/** A value of a file with what stands for other values put in. */
function fill(value, kept) {
  if (typeof value === 'string' && value.startsWith('$')) {
    const [name, ...names] = value.slice(1).split('.')
    assert.ok(kept.has(name), `nothing was kept as ${value}`)
    return names.reduce((part, name) => part[name], kept.get(name))
  }
  if (Array.isArray(value)) return value.map((item) => fill(item, kept))
  if (value === null || typeof value !== 'object') return value
  if ('$repeat' in value) return value.$repeat.repeat(value.times)
  if ('$nest' in value) return JSON.parse('['.repeat(value.$nest) + ']'.repeat(value.$nest))
  if ('$list' in value) return Array(value.times).fill(value.$list)
  return Object.fromEntries(Object.entries(value).map(([name, inside]) => [name, fill(inside, kept)]))
}

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** Longer than any answer takes, in milliseconds; only a lost change makes a test wait for it. */
const PATIENCE = 60_000

/** Named arguments as this language takes options; durations are in milliseconds here too. */
function options(names) {
  const given = Object.entries(names).filter(([name]) => !['id', 'ids', 'document', 'patch', 'name', 'call', 'collection'].includes(name))
  return Object.fromEntries(given.map(([name, value]) => [name === 'ttl_ms' ? 'ttl' : camel(name), value]))
}

function batch(db, { operations, ...rest }) {
  const gathered = operations.reduce((batch, step) => {
    const { call, collection, id, document, patch } = step
    if (call === 'enqueue') return batch.enqueue(step.queue, step.params, queue.options(step))
    const given = [collection, ...(id === undefined ? [] : [id]), ...(document === undefined ? [] : [document]), ...(patch === undefined ? [] : [patch])]
    return batch[call](...given, options(step))
  }, db.batch())
  return gathered.commit(options(rest)).then((answers) =>
    answers.map((answer, at) => (operations[at].call === 'enqueue' ? queue.told(answer) : answer)))
}

/** A collection's description in the names of the files. */
function described(info) {
  if (Array.isArray(info)) return info.map(described)
  const { definition: { ttl, ...definition }, ...rest } = info
  const renamed = Object.fromEntries(Object.entries(definition).map(([name, value]) => [snake(name), value]))
  return { ...rest, definition: { ...renamed, ttl_ms: ttl } }
}

const CALLS = {
  create: (store, { document, ...rest }) => store.create(document, options(rest)),
  replace: (store, { id, document, ...rest }) => store.replace(id, document, options(rest)),
  update: (store, { id, patch, ...rest }) => store.update(id, patch, options(rest)),
  delete: (store, { id, ...rest }) => store.delete(id, options(rest)),
  get: (store, { id }) => store.get(id),
  entry: (store, { id }) => store.entry(id),
  get_many: (store, { ids }) => store.getMany(ids),
  count: (store) => store.count(),
  list: (store, names) => store.list(options(names)).toArray(),
  page: (store, names) => store.page(options(names)),
  declare: async (store, names) => described(await store.declare(options(names))),
  mock: (store, { count, seed }) => store.mock(count, seed),
  drop_index: async (store, { name }) => described(await store.dropIndex(name)),
  describe: async (store) => described(await store.describe()),
}

async function take(db, { take, ...rest }) {
  const changes = db.changes({ ...options(rest), signal: AbortSignal.timeout(PATIENCE) })
  const found = []
  // A feed is opened in the background: its failure is met by the first change.
  for (let n = 0; n < (take ?? 1); n++) found.push((await changes.next()).value)
  await changes.close()
  return found
}

async function perform(db, call, names) {
  if (call === 'random.histogram') {
    const { count, ...rest } = names
    return (await kappa.histogram(count, rest)).toJSON()
  }
  const [store, method] = call.split('.')
  if (store === 'tasks') return queue.perform(db, method, names)
  if (store === 'db') {
    if (method === 'batch') return batch(db, names)
    if (method === 'changes') return take(db, names)
    const answer = await db[camel(method)](...(names.name === undefined ? [] : [names.name]))
    return method === 'collections' ? described(answer) : answer
  }
  assert.ok(CALLS[method], `this runner does not know ${call}`)
  return CALLS[method](store === 'products' || store === 'users' ? db[store] : await db.collection(store), names)
}

/** Whether `part` is within `whole`: objects may have more fields, lists have the same length. */
function contains(whole, part) {
  if (Array.isArray(part)) {
    return Array.isArray(whole) && whole.length === part.length && part.every((item, at) => contains(whole[at], item))
  }
  if (part === null || typeof part !== 'object') return Object.is(whole, part) || (whole === 0 && part === 0)
  return whole !== null && typeof whole === 'object' && Object.entries(part).every(([name, inside]) => contains(whole[name], inside))
}

async function step(db, { call, with: given = {}, as, gives, equals, fails, ...rest }, kept) {
  assert.deepEqual(Object.keys(rest).filter((name) => name !== 'name'), [], 'a step with words that nobody reads')
  const names = fill(given, kept)
  const what = `${call} ${inspect(names, { depth: 6 }).slice(0, 300)}`
  let answer
  let error
  try {
    answer = await perform(db, call, names)
  } catch (failure) {
    error = failure
  }
  assert.equal(error?.code, fails, `${what}: ${error?.stack ?? inspect(answer)}`)
  if (equals !== undefined) assert.deepEqual(answer, fill(equals, kept), what)
  if (gives !== undefined) assert.ok(contains(answer, fill(gives, kept)), `${what} gave ${inspect(answer, { depth: 6 })}`)
  if (as !== undefined) kept.set(as, answer)
}

for (const file of files) {
  for (const { name, not_over: notOver, steps, ...rest } of load(file)) {
    assert.deepEqual(rest, {}, `${name}: words that nobody reads`)
    if (notOver?.node !== undefined) continue
    const run = async (db) => {
      assert.ok(steps.length > 0)
      const kept = new Map()
      for (const one of steps) await step(db, one, kept)
    }
    test(`${file}: ${name}`, async (t) => run(await inMemory(t)))
    if (notOver?.remote !== undefined) continue
    test(`${file}, over a server: ${name}`, async (t) => {
      const db = await kappa.Kappa.connect((await server(t)).url)
      await run(db)
      await db.close()
    })
  }
}

// One bad call must not only fail: whatever it was about to write must not be there afterwards.
test('bad input is refused and leaves a small shop as it was', async (t) => {
  const cases = load('bad_input.json')
  assert.ok(cases.length > 50)
  const db = await inMemory(t)
  await db.products.create({ id: 'p1', title: 'Mate', price: 12.5 })
  await db.users.create({ id: 'u1', name: 'Ana', email: 'ana@example.com', group: 1 })
  const orders = await db.collection('orders', { indexes: ['user', { field: 'number', unique: true }] })
  await orders.create({ id: 'o1', user: 'ana', number: 1 })
  await db.tasks.enqueue('mail', null, { delay: '1h', unique: 'k' })
  const everything = async () => [
    await db.collections(),
    await db.tasks.queues(),
    await queue.all(db.tasks.list()),
    await db.tasks.schedules(),
    ...(await Promise.all([db.products, db.users, orders].map((store) => store.list().toArray()))),
  ]
  const before = await everything()
  for (const one of cases) {
    assert.ok(one.fails, one.name)
    await step(db, one, new Map())
    assert.deepEqual(await everything(), before, `${one.name} changed something`)
  }
})

test('there are scenarios', () => {
  assert.ok(files.length >= 6, `in ${contract}: ${files.join(' ')}`)
})
