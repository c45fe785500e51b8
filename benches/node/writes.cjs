// Durable creates with 64 in flight, against better-sqlite3 (WAL, synchronous=FULL) with as many in a transaction.
'use strict'

const path = require('node:path')
const Sqlite = require('better-sqlite3')
const { Kappa } = require('kappa-core')
const { Rounds, cpu, describe, id, product, settle, since, withDirectory } = require('./support.cjs')

const ROUNDS = 15
const ROUND_SECONDS = 0.5

/** Creates for a while with `inFlight` on their way; how many. */
async function create(products, inFlight, first) {
  const start = process.hrtime.bigint()
  let next = first
  const writer = async () => {
    while (since(start) < ROUND_SECONDS) await products.create(product(next++))
  }
  await Promise.all(Array.from({ length: inFlight }, writer))
  return next - first
}

function openSqlite(place) {
  const db = new Sqlite(place)
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.exec('CREATE TABLE products (id TEXT PRIMARY KEY, price REAL, document TEXT) WITHOUT ROWID')
  db.exec('CREATE INDEX by_price ON products (price)')
  const insert = db.prepare('INSERT INTO products VALUES (?, ?, ?)')
  const group = db.transaction((first, end) => {
    for (let number = first; number < end; number++) {
      const made = product(number, { id: id(number) })
      insert.run(made.id, made.price, JSON.stringify(made))
    }
  })
  return { group, close: () => db.close() }
}

async function sideBySide(directory, inFlight, goal) {
  const kappa = await Kappa.open(path.join(directory, `kappa-${inFlight}`), { mode: 'owner', durability: 'synced' })
  await kappa.products.declare({ indexes: ['price'] })
  const sqlite = openSqlite(path.join(directory, `sqlite-${inFlight}`))
  const rates = new Rounds(`durable creates, ${inFlight} in flight, one index`, 'products/s')
  const costs = new Rounds('what a create costs', 'us of CPU')
  let made = 0
  for (let round = 0; round <= ROUNDS; round++) {
    await settle()
    let [start, used] = [process.hrtime.bigint(), process.cpuUsage()]
    const count = await create(kappa.products, inFlight, made)
    const [seconds, cost] = [since(start), cpu(used)]
    await settle()
    ;[start, used] = [process.hrtime.bigint(), process.cpuUsage()]
    for (let first = made; first < made + count; first += inFlight) {
      sqlite.group(first, Math.min(first + inFlight, made + count))
    }
    made += count
    // The first round makes files and lets the compiler see what is hot.
    if (round === 0) continue
    rates.add('better-sqlite3', count / since(start))
    costs.add('better-sqlite3', cpu(used) / count)
    rates.add('kappa', count / seconds)
    costs.add('kappa', cost / count)
  }
  rates.print()
  rates.ratio('kappa', 'better-sqlite3', goal)
  costs.print()
  const { length } = (await kappa.products.page({ pageSize: 1 })).items
  if (length !== 1 || (await kappa.products.count()) !== made) throw new Error('not everything is there')
  sqlite.close()
  await kappa.close()
}

withDirectory(async (directory) => {
  describe('node writes')
  await sideBySide(directory, 64, 1)
  await sideBySide(directory, 1)
})
