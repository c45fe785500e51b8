// What the side-by-side runs in Node share: rounds, made-up products, a directory, a quiet moment.
'use strict'

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

/** Bytes of a product's text, as in the benches of Rust. */
const BYTES = 300
const DESCRIPTION =
  'A sturdy everyday thing made of wood and steel that lasts longer than its price suggests, comes with all that is ' +
  'needed to put it up, and can be taken apart and repaired with ordinary tools; in stock in three colours, delivered ' +
  'within two days.'

/** An id as long as those that Kappa makes, and ascending as they do. */
function id(number) {
  return `01890000-0000-7000-8000-${number.toString(16).padStart(12, '0')}`
}

/** A product whose JSON text has 300 bytes, `more` included. */
function product(number, more = {}) {
  const price = (number % 100_000) + (number % 100) / 100
  const thumbnail = `https://shop.example/${number}.jpg`
  const made = { ...more, title: `Product ${number}`, price, stock: number % 1000, thumbnail, description: '' }
  made.description = DESCRIPTION.slice(0, BYTES - JSON.stringify(made).length)
  return made
}

/** Numbers without visible order, the same for the same start (mulberry32). */
class Numbers {
  #state
  constructor(start) {
    this.#state = start
  }

  below(end) {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end)
  }
}

/** The smallest, middle and largest of some figures. */
function spread(figures) {
  const sorted = [...figures].sort((one, other) => one - other)
  const middle = sorted.length / 2
  const median = sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2
  return { min: sorted[0], median, max: sorted.at(-1) }
}

function columns({ min, median, max }) {
  const digits = median < 10 ? 3 : 0
  return [min, median, max].map((figure) => figure.toFixed(digits).padStart(12)).join(' ')
}

/** The figures of several subjects that take turns; a ratio is taken within its round. */
class Rounds {
  #title
  #unit
  #subjects = new Map()

  constructor(title, unit) {
    this.#title = title
    this.#unit = unit
  }

  add(subject, figure) {
    const figures = this.#subjects.get(subject) ?? []
    this.#subjects.set(subject, [...figures, figure])
  }

  print() {
    const [first] = this.#subjects.values()
    console.log(`\n${this.#title} (${this.#unit}, ${first.length} rounds)`)
    console.log(`  ${''.padEnd(38)} ${['min', 'median', 'max'].map((name) => name.padStart(12)).join(' ')}`)
    for (const [name, figures] of this.#subjects) console.log(`  ${name.padEnd(38)} ${columns(spread(figures))}`)
  }

  /** Prints the ratio of `of` to `to`, and where there is a goal whether its median is at least that. */
  ratio(of, to, goal) {
    const others = this.#subjects.get(to)
    const found = spread(this.#subjects.get(of).map((figure, round) => figure / others[round]))
    const verdict = found.median >= goal ? 'reached' : 'MISSED'
    const judged = goal === undefined ? '' : `   goal: at least ${goal}: ${verdict}`
    console.log(`  ${`${of} / ${to}`.padEnd(38)} ${columns(found)}${judged}`)
  }
}

/** Prints the shape of the machine and how busy it is. */
function describe(bench) {
  const load = os.loadavg()[0].toFixed(2)
  console.log(`\n== ${bench}: Node ${process.version}, ${os.availableParallelism()} cores, load ${load} before the start`)
}

/** Waits until background work of this process has ended, at most 20 s. */
async function settle() {
  const end = Date.now() + 20_000
  for (let quiet = 0; quiet < 3 && Date.now() < end; ) {
    const before = process.cpuUsage()
    await new Promise((resolve) => setTimeout(resolve, 50))
    const { user, system } = process.cpuUsage(before)
    quiet = user + system > 5_000 ? 0 : quiet + 1
  }
}

/** Runs `work` with a new directory on a disk, and removes it afterwards. */
async function withDirectory(work) {
  const parent = process.env.KAPPA_BENCH_PLACE ?? __dirname
  const directory = fs.mkdtempSync(path.join(parent, 'bench-'))
  try {
    await work(directory)
  } finally {
    fs.rmSync(directory, { recursive: true, force: true })
  }
}

/** Microseconds of processor time that this process used since `before`. */
function cpu(before) {
  const { user, system } = process.cpuUsage(before)
  return user + system
}

/** Seconds since `start`, which `process.hrtime.bigint()` gave. */
function since(start) {
  return Number(process.hrtime.bigint() - start) / 1e9
}

module.exports = { Numbers, Rounds, cpu, describe, id, product, settle, since, withDirectory }
