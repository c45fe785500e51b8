// Point reads and range scans of an owner process, against lmdb-js and better-sqlite3 with the same ids and values.
// Every subject hands over objects of JavaScript.
'use strict'

const path = require('node:path')
const Sqlite = require('better-sqlite3')
const { Kappa } = require('kappa-core')
const { open: openLmdb } = require('lmdb')
const { Numbers, Rounds, describe, id, product, settle, since, withDirectory } = require('./support.cjs')

const DOCUMENTS = 100_000
const HOT = 10_000
const READS = 60_000
const SCANNED = 10_000
const IN_RANGE = 1_000
const ROUNDS = 11

async function fillKappa(place) {
  const db = await Kappa.open(place, { mode: 'owner' })
  await db.products.declare({ indexes: ['price'] })
  for (let start = 0; start < DOCUMENTS; start += 500) {
    const batch = db.batch()
    for (let number = start; number < start + 500; number++) batch.create('products', product(number, { id: id(number) }))
    await batch.commit()
  }
  // The end drains everything into the view's store: what is read afterwards is there, not in a memtable.
  await db.close()
  return Kappa.open(place, { mode: 'owner' })
}

function fillLmdb(place, encoding) {
  const db = openLmdb({ path: place, encoding, mapSize: 2 ** 30 })
  db.transactionSync(() => {
    for (let number = 0; number < DOCUMENTS; number++) db.putSync(id(number), product(number, { id: id(number) }))
  })
  return db
}

function fillSqlite(place) {
  const db = new Sqlite(place)
  db.pragma('journal_mode = WAL')
  db.exec('CREATE TABLE products (id TEXT PRIMARY KEY, price REAL, document TEXT) WITHOUT ROWID')
  db.exec('CREATE INDEX by_price ON products (price)')
  const insert = db.prepare('INSERT INTO products VALUES (?, ?, ?)')
  db.transaction(() => {
    for (let number = 0; number < DOCUMENTS; number++) {
      const made = product(number, { id: id(number) })
      insert.run(made.id, made.price, JSON.stringify(made))
    }
  })()
  return db
}

/** Each of the hot ids equally often, spread over the whole range. */
function hotIds() {
  const numbers = new Numbers(1)
  return Array.from({ length: READS }, () => id(numbers.below(HOT) * (DOCUMENTS / HOT)))
}

/** Lets the subjects take turns; each gives a sum that must be the same for all. */
async function takeTurns(title, unit, work, subjects) {
  const rounds = new Rounds(title, unit)
  for (let round = 0; round <= ROUNDS; round++) {
    const sums = []
    for (const [name, subject] of Object.entries(subjects)) {
      const start = process.hrtime.bigint()
      sums.push(await subject())
      // The first round fills caches and lets the compiler see what is hot.
      if (round > 0) rounds.add(name, work / since(start) / 1e3)
    }
    if (sums.some((sum) => sum !== sums[0])) throw new Error(`all must read the same: ${sums}`)
  }
  rounds.print()
  return rounds
}

async function points(kappa, lmdb, lmdbJson, sqlite) {
  const ids = hotIds()
  const { products } = kappa
  const select = sqlite.prepare('SELECT document FROM products WHERE id = ?').pluck()
  const sum = (get) => () => ids.reduce((all, id) => all + get(id).stock, 0)
  const rounds = await takeTurns(`point reads, ${HOT} hot ids`, 'thousand reads/s', READS, {
    'kappa getSync': sum((id) => products.getSync(id)),
    'kappa get, 64 in flight': async () => {
      let all = 0
      for (let start = 0; start < READS; start += 64) {
        const found = await Promise.all(ids.slice(start, start + 64).map((id) => products.get(id)))
        for (const { stock } of found) all += stock
      }
      return all
    },
    'lmdb-js, msgpack': sum((id) => lmdb.get(id)),
    'lmdb-js, JSON': sum((id) => lmdbJson.get(id)),
    'better-sqlite3, JSON.parse': sum((id) => JSON.parse(select.get(id))),
  })
  rounds.ratio('kappa getSync', 'lmdb-js, msgpack', 0.7)
  rounds.ratio('kappa getSync', 'lmdb-js, JSON', 0.7)
  rounds.ratio('kappa getSync', 'better-sqlite3, JSON.parse', 1)
  rounds.ratio('kappa get, 64 in flight', 'kappa getSync')
}

async function scans(kappa, lmdb, lmdbJson, sqlite) {
  const { products } = kappa
  const select = sqlite.prepare('SELECT document FROM products ORDER BY id LIMIT ?').pluck()
  const list = async (options) => {
    let all = 0
    for await (const { stock } of products.list({ limit: SCANNED, ...options })) all += stock
    return all
  }
  const range = (db) => () => {
    let all = 0
    for (const { value } of db.getRange({ limit: SCANNED })) all += value.stock
    return all
  }
  const rounds = await takeTurns(`the first ${SCANNED} in their order`, 'thousand documents/s', SCANNED, {
    'kappa list': () => list({}),
    'kappa list, pageSize 1000': () => list({ pageSize: 1000 }),
    'lmdb-js, msgpack': range(lmdb),
    'lmdb-js, JSON': range(lmdbJson),
    'better-sqlite3, JSON.parse': () => {
      let all = 0
      for (const text of select.iterate(SCANNED)) all += JSON.parse(text).stock
      return all
    },
  })
  for (const peer of ['lmdb-js, msgpack', 'lmdb-js, JSON']) rounds.ratio('kappa list, pageSize 1000', peer, 0.7)
  rounds.ratio('kappa list, pageSize 1000', 'better-sqlite3, JSON.parse', 1)
  rounds.ratio('kappa list', 'better-sqlite3, JSON.parse')
}

async function ranges(kappa, sqlite) {
  const numbers = new Numbers(2)
  const starts = Array.from({ length: 10 }, () => numbers.below(DOCUMENTS - IN_RANGE))
  const select = sqlite.prepare('SELECT document FROM products WHERE price BETWEEN ? AND ? ORDER BY price').pluck()
  const ends = starts.map((start) => [start, start + IN_RANGE - 0.001])
  const rounds = await takeTurns(`${IN_RANGE} by their price`, 'thousand documents/s', IN_RANGE * starts.length, {
    'kappa list, pageSize 1000': async () => {
      let all = 0
      for (const [from, to] of ends) {
        for await (const { stock } of kappa.products.list({ index: 'price', from, to, pageSize: 1000 })) all += stock
      }
      return all
    },
    'better-sqlite3, JSON.parse': () => {
      let all = 0
      for (const end of ends) for (const text of select.iterate(...end)) all += JSON.parse(text).stock
      return all
    },
  })
  rounds.ratio('kappa list, pageSize 1000', 'better-sqlite3, JSON.parse', 1)
}

withDirectory(async (directory) => {
  describe('node reads')
  const kappa = await fillKappa(path.join(directory, 'kappa'))
  const lmdb = fillLmdb(path.join(directory, 'lmdb'), 'msgpack')
  const lmdbJson = fillLmdb(path.join(directory, 'lmdb-json'), 'json')
  const sqlite = fillSqlite(path.join(directory, 'sqlite'))
  await settle()
  await points(kappa, lmdb, lmdbJson, sqlite)
  await scans(kappa, lmdb, lmdbJson, sqlite)
  await ranges(kappa, sqlite)
  sqlite.close()
  await Promise.all([lmdb.close(), lmdbJson.close(), kappa.close()])
})
