// A program of a user in TypeScript: it must compile under `strict`, and run.
import kappa, { Kappa, KappaError, NotFoundError, histogram, cpuInfo } from 'kappa-core'
import type { Change, Collection, Entry, Stored } from 'kappa-core'

interface Order {
  user: string
  total: number
  lines?: { title: string; units: number }[]
}

async function orders(db: Kappa): Promise<void> {
  const orders: Collection<Order> = await db.collection<Order>('orders', { indexes: ['user', { field: 'total', unique: false }] })
  const order: Stored<Order> = await orders.create({ user: 'ana', total: 30 })
  const dearer = await orders.update(order.id, { total: 31, lines: null })
  const entry: Entry<Order> | null = await orders.entry(order.id)
  if (entry === null || dearer.total !== 31) throw new Error('the order is gone')
  await orders.replace(order.id, { user: 'ana', total: 32 }, { ifVersion: entry.version, ttl: 60_000 })
  for await (const { id, user, total } of orders.list({ index: 'user', equal: 'ana' })) {
    const text: string = `${id} ${user} ${total.toFixed(2)}`
    console.log(text.length > 0)
  }
  // @ts-expect-error an order has a total
  const wrong = orders.create({ user: 'ana' })
  await wrong
  // @ts-expect-error the total of an order is a number
  const patch = { total: 'many' } satisfies Parameters<typeof orders.update>[1]
  console.log(typeof patch.total, orders.getSync(order.id)?.user)
}

async function main(): Promise<void> {
  await using db = await Kappa.inMemory({ durability: 'synced', numbers: 'exact' })
  const { id, price } = await db.products.create({ title: 'Mate', price: 12.5, origin: 'Misiones' })
  console.log(price + 1, (await db.products.get(id))?.title, await db.users.count())
  await orders(db)
  await using changes = db.changes<Order>({ start: 'oldest' })
  for await (const change of changes) {
    const seen: Change<Order> = change
    console.log(seen.kind, seen.document?.total)
    break
  }
  try {
    await db.products.update('none', { price: 1 })
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
    const base: KappaError = error
    console.log(base.code, base.context['id'])
  }
  const throws = await histogram(1_000, { range: [1, 6], seed: 1n })
  console.log(throws.counts.length, cpuInfo().parallelism > 0, kappa.Kappa === Kappa)
  const made = await db.batch().create('orders', { user: 'eva', total: 1 }).delete('orders', 'none').commit()
  console.log(made.length, (await db.products.mock(2))[0]?.price !== undefined)
}

await main()
console.log('done')
