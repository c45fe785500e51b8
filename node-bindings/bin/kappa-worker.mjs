#!/usr/bin/env node
// `npx kappa-worker app.mjs`: runs the handlers that a module exports until it is told to stop.
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import kappa from '../index.cjs'

const USAGE = 'usage: kappa-worker FILE[:NAME]; it exports NAME (queue): { path, options, handlers: { mail: handler or [handler, options] } }'

const [, file, name = 'queue'] = /^(.+?)(?::([A-Za-z_$][\w$]*))?$/.exec(process.argv[2] ?? '') ?? []
if (file === undefined) fail(USAGE)
const found = await import(pathToFileURL(path.resolve(file)).href)
const queue = found[name] ?? found.default?.[name] ?? found.default
if (typeof queue?.path !== 'string' || typeof queue.handlers !== 'object' || queue.handlers === null) fail(USAGE)

const isUrl = /^https?:/.test(queue.path)
const db = await (isUrl ? kappa.Kappa.connect(queue.path, queue.options) : kappa.Kappa.open(queue.path, queue.options))
const workers = Object.entries(queue.handlers).map(([on, given]) => db.worker(on, ...[given].flat()))

let asked = false
async function stop() {
  // The second signal ends the process at once: its leases are handed back as it exits.
  if (asked) process.exit(1)
  asked = true
  const unfinished = await Promise.all(workers.map((worker) => worker.stop()))
  const count = unfinished.reduce((sum, one) => sum + one, 0)
  if (count > 0) console.log(`kappa worker: ${count} tasks had not ended and were handed back`)
  await db.close()
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
console.log(`kappa worker: waits for tasks of ${Object.keys(queue.handlers).join(', ')}`)

function fail(message) {
  console.error(message)
  process.exit(2)
}
