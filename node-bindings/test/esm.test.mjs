// The same package by `import`.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import kappa, * as named from 'kappa-core'

test('import and require give the same things under the same names', () => {
  const required = createRequire(import.meta.url)('kappa-core')
  assert.equal(kappa, required)
  const names = Object.keys(required).sort()
  assert.deepEqual(Object.keys(named).filter((name) => name !== 'default').sort(), names)
  for (const name of names) assert.equal(named[name], required[name], name)
})

test('what is imported works', async () => {
  const db = await named.Kappa.inMemory()
  const { id } = await db.products.create({ title: 'Mate', price: 1 })
  for await (const product of db.products.list()) assert.equal(product.id, id)
  await assert.rejects(db.products.update('none', {}), named.NotFoundError)
  await db[Symbol.asyncDispose]()
  await assert.rejects(db.products.get(id), { code: 'closed' })
})
