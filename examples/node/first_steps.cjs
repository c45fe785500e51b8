// First steps: documents, an index, the change feed and a histogram, in one process.
'use strict'

const { Kappa, histogram } = require('kappa-core')

async function main() {
  const db = await Kappa.open(process.argv[2] ?? 'first-steps-data')

  const mate = await db.products.create({ title: 'Mate', price: 12.5 })
  const before = await db.products.entry(mate.id)
  console.log(`created ${JSON.stringify(mate)}`)
  const dearer = await db.products.update(mate.id, { price: 13 })
  const after = await db.products.entry(mate.id)
  console.log(`now ${JSON.stringify(dearer)}, version ${after.version} after ${before.version}`)
  console.log(`${await db.products.count()} product(s)`)

  const orders = await db.collection('orders', { indexes: ['user'] })
  const changes = db.changes()
  for (const [user, total] of [['ana', 30], ['luis', 20], ['ana', 10]]) {
    await orders.create({ user, total })
  }
  for await (const order of orders.list({ index: 'user', equal: 'ana' })) {
    console.log(`order of ana: ${JSON.stringify(order)}`)
  }
  let seen = 0
  for await (const { kind, id, collection } of changes) {
    console.log(`${kind} ${id} in ${collection}`)
    if (++seen === 3) break
  }

  const throws = await histogram(20_000, { range: [1, 6], seed: 42 })
  console.log(`a die thrown 20 000 times: ${JSON.stringify(throws.counts)}`)
  await db.close()
}

main()
