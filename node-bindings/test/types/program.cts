// The same from CommonJS.
import kappa = require('kappa-core')

async function main(): Promise<number> {
  const db: kappa.Kappa = await kappa.Kappa.inMemory()
  const users: kappa.Collection<kappa.User> = db.users
  const ana: kappa.Stored<kappa.User> = await users.create({ name: 'Ana', group: 1 })
  const page: kappa.Page<kappa.User> = await users.page({ pageSize: 1 })
  await db.close()
  return ana.id.length + page.items.length
}

main().then((number) => console.log(number > 1 ? 'done' : 'nothing'))
