// One open database.
'use strict'

const { native, port, call, nothing } = require('./port.cjs')
const { camel, collectionInfo } = require('./text.cjs')
const { invalid } = require('./errors.cjs')
const check = require('./arguments.cjs')
const { Collection, Products } = require('./store.cjs')
const { Batch } = require('./batch.cjs')
const { Changes } = require('./changes.cjs')
const { Tasks } = require('./tasks.cjs')
const { Worker } = require('./worker.cjs')

const OPEN_OPTIONS = [
  'mode', 'durability', 'view', 'intakeBytes', 'deadline', 'memtableBytes', 'cacheBytes', 'logRetentionBytes', 'logRetention',
  'segmentBytes', 'mergeBytes', 'networkDisk',
]
/** The options that are no numbers. */
const OPTION_CHECKS = { mode: check.text, durability: check.text, view: check.text, networkDisk: check.flag }
const CONNECT_OPTIONS = ['deadline']
const OWN_OPTIONS = ['numbers', 'signal']

class Kappa {
  #native
  #reading

  /** Use `Kappa.open` or `Kappa.inMemory`. */
  constructor(made, reading) {
    if (reading === undefined) throw invalid('a database is opened with `await Kappa.open(path)`')
    this.#native = made
    this.#reading = reading
    this.products = new Products(made, 'products', reading)
    this.users = new Collection(made, 'users', reading)
    this.tasks = new Tasks(made, reading)
  }

  /** Opens the database in the directory `path`, made if it is not there. */
  static open(path, options) {
    const place = () => check.text(path instanceof URL ? require('node:url').fileURLToPath(path) : path, 'the path')
    return start(OPEN_OPTIONS, options, (slot, settings) => native.open(port, slot, place(), settings))
  }

  /** A database in memory: gone when it is closed. */
  static inMemory(options) {
    return start(OPEN_OPTIONS, options, (slot, settings) => native.open(port, slot, undefined, settings))
  }

  /** The database behind the server at `url`. */
  static async connect(url, options) {
    const { token, ...rest } = check.options(options, [...CONNECT_OPTIONS, ...OWN_OPTIONS, 'token'])
    const address = check.text(url instanceof URL ? url.href : url, 'the URL')
    const secret = check.optionalText(token, 'token')
    return start(CONNECT_OPTIONS, rest, (slot, settings) => native.connect(port, slot, address, secret, settings))
  }

  /** The collection `name`; with options they are declared first. */
  async collection(name, options) {
    const collection = new Collection(this.#native, check.text(name, 'a collection name'), this.#reading)
    if (options !== undefined && options !== null) await collection.declare(options)
    return collection
  }

  /** Every collection that was declared or written. */
  collections(options) {
    return this.#call(options, (slot) => native.collections(this.#native, slot), (found) => found.map(collectionInfo))
  }

  /** Writes that happen together or not at all. */
  batch() {
    return new Batch(this.#native, this.#reading)
  }

  /** Runs a handler on the tasks of a queue, or of several, until it is stopped. */
  worker(queue, handler, options) {
    return new Worker(this.#native, queue, handler, options, this.#reading)
  }

  /** Changes in the order they were committed. */
  changes(options) {
    return new Changes(this.#native, this.#reading, options)
  }

  /** How the database stands. */
  info(options) {
    return this.#call(options, (slot) => native.info(this.#native, slot), camel)
  }

  /** Answers when reads and writes are being answered. */
  ready(options) {
    return this.#call(options, (slot) => native.ready(this.#native, slot), nothing)
  }

  /** What is damaged, in words. */
  check(options) {
    return this.#call(options, (slot) => native.check(this.#native, slot), (found) => found)
  }

  /** Finishes what was begun and gives the directory back. */
  close() {
    return call((slot) => native.close(this.#native, slot), nothing)
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }

  #call(options, start, convert) {
    try {
      return call(start, convert, { signal: check.signal(check.options(options, ['signal']).signal) })
    } catch (error) {
      return Promise.reject(error)
    }
  }
}

async function start(names, given, begin) {
  const options = check.options(given, [...names, ...OWN_OPTIONS])
  const numbers = options.numbers ?? 'exact'
  if (numbers !== 'exact' && numbers !== 'nearest') throw invalid("numbers is 'exact' or 'nearest'")
  const signal = check.signal(options.signal)
  const settings = {}
  for (const name of names) {
    const value = options[name]
    if (value === undefined || value === null) continue
    settings[name] = (OPTION_CHECKS[name] ?? check.optionalNatural)(value, name)
  }
  const made = await call(
    (slot) => begin(slot, JSON.stringify(settings)),
    (_, slot) => native.opened(port, slot),
    { signal },
  )
  return new Kappa(made, { nearest: numbers === 'nearest' })
}

module.exports = { Kappa }
