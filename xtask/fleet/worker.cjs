// Processes of a Node cluster on one data directory: a primary that starts its workers again, and workers that write,
// read and keep an account of what was acknowledged.
'use strict'

const cluster = require('node:cluster')
const fs = require('node:fs')
const path = require('node:path')

const [directory, accounts, count] = process.argv.slice(2)

if (cluster.isPrimary) {
  let stopping = false
  for (let number = 0; number < Number(count); number++) start(number)
  cluster.on('exit', (worker, code) => {
    if (!stopping && (code !== 0 || worker.ended !== true)) start(worker.number)
  })
  process.on('SIGTERM', () => {
    stopping = true
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGTERM')
  })
  function start(number) {
    const worker = cluster.fork({ KAPPA_WORKER: `node-${number}` })
    worker.number = number
  }
} else {
  work()
}

async function work() {
  const { Kappa } = require('kappa-core')
  const name = `${process.env.KAPPA_WORKER}-${process.pid}`
  const account = fs.openSync(path.join(accounts, `${name}.txt`), 'a')
  const note = (...words) => fs.writeSync(account, `${words.join(' ')}\n`)
  let stopping = false
  process.on('SIGTERM', () => { stopping = true })
  const db = await Kappa.open(directory)
  const orders = await db.collection('orders')
  let slowest = 0
  const timed = async (call) => {
    const begun = performance.now()
    const answer = await call()
    slowest = Math.max(slowest, performance.now() - begun)
    return answer
  }
  let number = 0
  const lane = async () => {
    while (!stopping) {
      const mark = `${name}-${number++}`
      try {
        const made = await timed(() => orders.create({ mark, state: 'new' }))
        note('made', mark)
        const read = await timed(() => orders.get(made.id))
        if (read?.mark !== mark) note('failed', 'a read after its write', mark)
        await timed(() => orders.update(made.id, { state: 'paid' }))
        note('paid', mark)
        if (number % 50 === 0) for await (const one of orders.list({ limit: 20 })) if (!one.mark) note('failed', 'a list')
      } catch (error) {
        note('failed', error.code, error.message)
      }
    }
  }
  await Promise.all([lane(), lane(), lane(), lane()])
  note('slowest', Math.round(slowest))
  await db.close()
  process.disconnect()
}
