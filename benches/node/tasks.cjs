// The task queue in a Node process, against BullMQ on a Redis that syncs each write (appendfsync always).
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const util = require('node:util')
const { Queue, Worker } = require('bullmq')
const { Kappa } = require('kappa-core')
const redis = require('./redis.cjs')
const { Rounds, describe, settle, since, withDirectory } = require('./support.cjs')

const ROUNDS = Number(process.env.KAPPA_BENCH_ROUNDS ?? 7)
const ROUND_SECONDS = 0.5
const IN_FLIGHT = 128
const BULK = 1_000
const BULKS = 10
const PROCESSED = 10_000
const CONCURRENCY = 64
const RAW_BYTES = 64 << 20

/** What a small task carries. */
const params = (number) => ({ to: `user-${number}@example.com`, template: 'welcome', order: number })

/** Kappa as the bench asks for it: what takes part in a round of either subject has the same names. */
async function kappa(directory) {
  const db = await Kappa.open(path.join(directory, 'kappa'), { mode: 'owner', durability: 'synced' })
  return {
    add: (queue, number) => db.tasks.enqueue(queue, params(number)),
    addMany: (queue, numbers) => db.tasks.enqueueMany(numbers.map((number) => ({ queue, params: params(number) }))),
    async work(queue, count) {
      const { worker, all } = counted(count, (handle) => db.worker(queue, handle, { concurrency: CONCURRENCY }))
      await all
      // Answers when the last outcome is durable.
      await worker.stop()
      const { waiting, active } = await db.tasks.queue(queue)
      if (waiting + active > 0) throw new Error(`${waiting + active} tasks were not run`)
    },
    close: () => db.close(),
  }
}

/** BullMQ at its defaults: a finished job is kept. */
function bull(socket) {
  const connection = { path: socket, maxRetriesPerRequest: null }
  const queues = new Map()
  const named = (name) => queues.get(name) ?? queues.set(name, new Queue(name, { connection })).get(name)
  return {
    add: (queue, number) => named(queue).add('send', params(number)),
    addMany: (queue, numbers) => named(queue).addBulk(numbers.map((number) => ({ name: 'send', data: params(number) }))),
    async work(queue, count) {
      let completed = 0
      let done
      const all = new Promise((resolve) => { done = resolve })
      const worker = new Worker(queue, async () => {}, { connection, concurrency: CONCURRENCY })
      // Told when Redis has answered that the job is finished.
      worker.on('completed', () => ++completed === count && done())
      await all
      // Its connections end behind the clock.
      return () => worker.close()
    },
    close: () => Promise.all([...queues.values()].map((queue) => queue.close())),
  }
}

/** A worker whose handler does nothing but count. */
function counted(count, start) {
  let left = count
  let done
  const all = new Promise((resolve) => { done = resolve })
  const worker = start(async () => { if (--left === 0) done() })
  return { worker, all }
}

/** Adds for a while with `inFlight` on their way; how many a second. */
async function add(subject, queue, inFlight) {
  const start = process.hrtime.bigint()
  let count = 0
  const adder = async () => {
    while (since(start) < ROUND_SECONDS) await subject.add(queue, count++)
  }
  await Promise.all(Array.from({ length: inFlight }, adder))
  return count / since(start)
}

async function addMany(subject, queue) {
  const numbers = Array.from({ length: BULK }, (_, number) => number)
  const start = process.hrtime.bigint()
  for (let bulk = 0; bulk < BULKS; bulk++) await subject.addMany(queue, numbers)
  return (BULK * BULKS) / since(start)
}

async function work(subject, queue) {
  for (let first = 0; first < PROCESSED; first += BULK) {
    await subject.addMany(queue, Array.from({ length: BULK }, (_, number) => first + number))
  }
  await settle()
  const start = process.hrtime.bigint()
  const after = await subject.work(queue, PROCESSED)
  const rate = PROCESSED / since(start)
  await after?.()
  return rate
}

/** Makes a file that was written full of zeros, as the log's segments are: a sync then changes no metadata. */
function makeRaw(directory) {
  const file = fs.openSync(path.join(directory, 'raw'), 'w')
  const zeros = Buffer.alloc(1 << 20)
  for (let at = 0; at < RAW_BYTES; at += zeros.length) fs.writeSync(file, zeros)
  fs.fsyncSync(file)
  fs.closeSync(file)
}

/** Bytes that this process has handed to the system to be written. */
function written() {
  return Number(/wchar: (\d+)/.exec(fs.readFileSync('/proc/self/io', 'utf8'))[1])
}

/** Ways to append and sync a record: a name, how the file is opened, one append, and how much of it a task should reach. */
const RAW = [
  // The event loop is free meanwhile, as it is beside Kappa.
  ['append + fdatasync, awaited', 'r+', async (file, record, at) => {
    await file.write(record, 0, record.length, at)
    await file.datasync()
  }, 0.7],
  ['one awaited write with O_DSYNC', fs.constants.O_WRONLY | fs.constants.O_DSYNC, (file, record, at) =>
    writing(file.fd, record, 0, record.length, at)],
  // Nothing else runs meanwhile, which no server can do.
  ['append + fdatasync, blocking the loop', 'r+', (file, record, at) => {
    fs.writeSync(file.fd, record, 0, record.length, at)
    fs.fdatasyncSync(file.fd)
  }, 0.7],
]
const writing = util.promisify(fs.write)

/** Appends `bytes` at a time; how often a second. */
async function append(directory, bytes, [, flags, once]) {
  const file = await fs.promises.open(path.join(directory, 'raw'), flags)
  const record = Buffer.alloc(bytes, 0x5a)
  const start = process.hrtime.bigint()
  let count = 0
  for (; since(start) < ROUND_SECONDS; count++) await once(file, record, (count * bytes) % (RAW_BYTES - bytes))
  const rate = count / since(start)
  await file.close()
  return rate
}

/** What is measured: a name, what does it, and how many times BullMQ it should be. */
const LOADS = [
  ['enqueue, 1 in flight', (subject, round) => add(subject, `one-${round}`, 1), 1],
  [`enqueue, ${IN_FLIGHT} in flight`, (subject, round) => add(subject, `many-${round}`, IN_FLIGHT), 3],
  [`enqueue in bulk, ${BULK} at a time`, (subject, round) => addMany(subject, `bulk-${round}`), 3],
  [`process, concurrency ${CONCURRENCY}`, (subject, round) => work(subject, `work-${round}`), 3],
]

/** The bytes that one task alone on its way writes: the least of some runs, because upkeep writes too. */
async function bytesOfOne(subject) {
  const found = []
  for (let run = 0; run < 5; run++) {
    await settle()
    const before = written()
    for (let number = 0; number < 100; number++) await subject.add('bytes', number)
    found.push(Math.round((written() - before) / 100))
  }
  return Math.min(...found)
}

withDirectory(async (directory) => {
  describe('node tasks')
  const server = await redis.start(directory)
  if (server === null) return console.log('  skipped: redis-server is not installed')
  const wanted = LOADS.filter(([name]) => name.includes(process.env.KAPPA_BENCH_LOAD ?? ''))
  const subjects = [['kappa', await kappa(directory)], ['bullmq', bull(server.socket)]]
  const bytes = await bytesOfOne(subjects[0][1])
  makeRaw(directory)
  for (const [name, load, goal] of wanted) {
    const rates = new Rounds(`tasks: ${name}`, 'tasks/s')
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [subject, adapter] of subjects) {
        await settle()
        const rate = await load(adapter, round)
        // The first round makes files and lets the compiler see what is hot.
        if (round > 0) rates.add(subject, rate)
      }
      if (goal !== 1 || round === 0) continue
      for (const raw of RAW) rates.add(raw[0], await append(directory, bytes, raw))
    }
    rates.print()
    rates.ratio('kappa', 'bullmq', goal)
    if (goal !== 1) continue
    console.log(`  each of ${bytes} bytes, as a task is`)
    for (const [raw, , , share] of RAW) rates.ratio('kappa', raw, share)
  }
  for (const [, { close }] of subjects) await close()
  await server.stop()
}).then(() => process.exit())
