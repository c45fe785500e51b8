// One Node process of a fleet that runs tasks on one data directory, until it is ended.
'use strict'

const fs = require('node:fs')
const { Kappa } = require('kappa-core')

const [, , directory, account, name] = process.argv

async function main() {
  const db = await Kappa.open(directory)
  const worker = db.worker('fleet', async ({ id, fence: [, run] }) => {
    await new Promise((resolve) => setTimeout(resolve, id % 37))
    fs.appendFileSync(account, `ran ${id} ${run} ${name}\n`)
    return `${name} ${run}`
  }, { concurrency: 8, lease: '2s', name })
  process.once('SIGTERM', async () => {
    await worker.stop()
    await db.close()
    process.exit(0)
  })
}

main()
