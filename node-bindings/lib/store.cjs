// The documents of one collection.
'use strict'

const { native, port, call, together, callNow, same } = require('./port.cjs')
const { toText, parseMarked, collectionInfo } = require('./text.cjs')
const { invalid, thrown } = require('./errors.cjs')
const check = require('./arguments.cjs')
const { List } = require('./list.cjs')

const CREATE = ['ttl', 'idempotencyKey', 'signal']
const WRITE = ['ifVersion', 'ttl', 'idempotencyKey', 'signal']
const DELETE = ['ifVersion', 'idempotencyKey', 'signal']
const SIGNAL = ['signal']

class Collection {
  #native
  #nearest

  /** Use `db.collection(name)`. */
  constructor(database, name, reading) {
    this.#native = callNow(() => native.collection(database, name))
    this.#nearest = reading.nearest
    Object.defineProperty(this, 'name', { value: name, enumerable: true })
  }

  /** Adds a document, with a UUID as its id where it names none. */
  create(document, options) {
    if (options === undefined || options === null) {
      return together(native.createMany, this.#native, () => toText(document), { convert: same, nearest: this.#nearest })
    }
    return this.#call(options, CREATE, (slot, { ttl, idempotencyKey }) =>
      native.create(this.#native, slot, toText(document), millis(ttl), key(idempotencyKey)),
    )
  }

  /** Sets all fields of a document. */
  replace(id, document, options) {
    return this.#call(options, WRITE, (slot, { ifVersion, ttl, idempotencyKey }) =>
      native.replace(
        this.#native, slot, idText(id), toText(document), version(ifVersion), millis(ttl), key(idempotencyKey),
      ),
    )
  }

  /** Sets the fields that the patch names; null removes one. */
  update(id, patch, options) {
    return this.#call(options, WRITE, (slot, { ifVersion, ttl, idempotencyKey }) =>
      native.update(
        this.#native, slot, idText(id), toText(patch, 'a patch'), version(ifVersion), millis(ttl), key(idempotencyKey),
      ),
    )
  }

  /** Removes a document; answers whether there was one. */
  delete(id, options) {
    return this.#call(options, DELETE, (slot, { ifVersion, idempotencyKey }) =>
      native.delete(this.#native, slot, idText(id), version(ifVersion), key(idempotencyKey)),
    )
  }

  /** One document, or null. */
  get(id, options) {
    return this.#call(options, SIGNAL, (slot) => native.get(this.#native, slot, idText(id)))
  }

  /** As `get`, at once: the event loop waits for the disk when the document is not in memory. */
  getSync(id) {
    try {
      return parseMarked(native.getSync(this.#native, idText(id)), this.#nearest)
    } catch (error) {
      throw thrown(error)
    }
  }

  /** One document with its version, or null. */
  entry(id, options) {
    return this.#call(options, SIGNAL, (slot) => native.entry(this.#native, slot, idText(id)))
  }

  /** As `entry`, at once. */
  entrySync(id) {
    return this.#now(() => native.entrySync(this.#native, idText(id)))
  }

  /** At most 1 000 documents in the order asked, null where there is none. */
  getMany(ids, options) {
    return this.#call(options, SIGNAL, (slot) => native.getMany(this.#native, slot, check.texts(ids, 'ids')))
  }

  /** As `getMany`, at once. */
  getManySync(ids) {
    return this.#now(() => native.getManySync(this.#native, check.texts(ids, 'ids')))
  }

  /** How many documents there are. */
  count(options) {
    return this.#call(options, SIGNAL, (slot) => native.count(this.#native, slot))
  }

  /** As `count`, at once. */
  countSync() {
    return this.#now(() => native.countSync(this.#native))
  }

  /** The documents in creation order, or as the options say. */
  list(options) {
    return new List(this.#native, this.#nearest, options)
  }

  /** One page of `list` with the same options. */
  page(options) {
    return new List(this.#native, this.#nearest, options).page()
  }

  /** Makes sure that indexes and rules hold. */
  declare(options) {
    return this.#call(
      options,
      ['indexes', 'ttl', 'partitionField', 'signal'],
      (slot, given) => native.declare(this.#native, slot, declaration(given)),
      collectionInfo,
    )
  }

  /** Removes an index. */
  dropIndex(index, options) {
    const start = (slot) => native.dropIndex(this.#native, slot, check.text(index, 'the name of an index'))
    return this.#call(options, SIGNAL, start, collectionInfo)
  }

  /** The collection as it stands. */
  describe(options) {
    return this.#call(options, SIGNAL, (slot) => native.describe(this.#native, slot), collectionInfo)
  }

  // `start` checks the arguments inside the call, so that a wrong one rejects the promise instead of throwing.
  #call(given, names, start, convert = same) {
    try {
      const options = check.options(given, names)
      const signal = check.signal(options.signal)
      return call((slot) => start(slot, options), convert, { signal, nearest: this.#nearest })
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #now(make) {
    return callNow(() => parseMarked(make(), this.#nearest))
  }
}

/** The collection of products. */
class Products extends Collection {
  /** Products that are made up: the same for the same seed, and not stored. */
  mock(count, seed = 0) {
    return call((slot) => native.mock(port, slot, check.natural(count, 'count'), check.natural(seed, 'seed')), same)
  }
}

const idText = (id) => check.text(id, 'an id')
const key = (value) => check.optionalText(value, 'an idempotency key')
const version = (value) => check.optionalText(value, 'a version')
const millis = (value) => check.optionalWhole(value, 'ttl')

function declaration({ indexes, ttl, partitionField }) {
  const said = { indexes: [], ttl: millis(ttl), partitionField: check.optionalText(partitionField, 'partitionField') }
  if (indexes !== undefined && indexes !== null) {
    if (!Array.isArray(indexes)) throw invalid('indexes is an array of names or of { field, name, unique }')
    said.indexes = indexes.map(index)
  }
  return JSON.stringify(said)
}

function index(given) {
  if (typeof given === 'string') return check.text(given, 'the field of an index')
  const { field, name, unique } = check.options(given, ['field', 'name', 'unique'])
  return {
    field: check.text(field, 'the field of an index'),
    name: check.optionalText(name, 'the name of an index'),
    unique: check.flag(unique, 'unique'),
  }
}

module.exports = { Collection, Products }
