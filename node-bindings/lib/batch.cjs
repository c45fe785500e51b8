// Operations being gathered to happen together.
'use strict'

const { native, call } = require('./port.cjs')
const { toText } = require('./text.cjs')
const check = require('./arguments.cjs')
const { NEW_TASK, taskText, told } = require('./tasks.cjs')

class Batch {
  #native
  #nearest
  #steps = []
  /** Which steps answer a task. */
  #tasks = new Set()

  /** Use `db.batch()`. */
  constructor(database, reading) {
    this.#native = database
    this.#nearest = reading.nearest
  }

  /** Adds a document. */
  create(collection, document, options) {
    const { ttl } = check.options(options, ['ttl'])
    return this.#push('create', { collection: name(collection), document: toText(document), ttl: millis(ttl) })
  }

  /** Sets all fields of a document. */
  replace(collection, id, document, options) {
    return this.#write('replace', collection, id, toText(document), options)
  }

  /** Sets the fields that the patch names. */
  update(collection, id, patch, options) {
    return this.#write('update', collection, id, toText(patch, 'a patch'), options)
  }

  /** Removes a document. */
  delete(collection, id, options) {
    const { ifVersion } = check.options(options, ['ifVersion'])
    return this.#push('delete', { collection: name(collection), id: text(id), if_version: version(ifVersion) })
  }

  /** Adds a task: it exists if the documents do. */
  enqueue(queue, params, options) {
    const document = taskText(queue, params, check.options(options, NEW_TASK))
    this.#tasks.add(this.#steps.length)
    return this.#push('enqueue', { document })
  }

  /** Runs all of it; gives for each operation the document it wrote, or whether it deleted one, or the task. */
  commit(options) {
    try {
      const { idempotencyKey, signal } = check.options(options, ['idempotencyKey', 'signal'])
      const key = check.optionalText(idempotencyKey, 'an idempotency key')
      const steps = `[${this.#steps.join(',')}]`
      const named = (answers) => answers.map((answer, at) => (this.#tasks.has(at) ? told(answer) : answer))
      return call((slot) => native.commit(this.#native, slot, steps, key), named, {
        signal: check.signal(signal),
        nearest: this.#nearest,
      })
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #write(operation, collection, id, document, options) {
    const { ifVersion, ttl } = check.options(options, ['ifVersion', 'ttl'])
    return this.#push(operation, {
      collection: name(collection), id: text(id), document, if_version: version(ifVersion), ttl: millis(ttl),
    })
  }

  #push(operation, { document, ...rest }) {
    // The document is JSON text already; writing it again would cost its length, and the digits of a BigInt.
    const fields = JSON.stringify(rest).slice(1, -1)
    this.#steps.push(`{"${operation}":{${fields}${document === undefined ? '' : `${fields && ','}"document":${document}`}}}`)
    return this
  }
}

const name = (value) => check.text(value, 'a collection name')
const text = (value) => check.text(value, 'an id')
const version = (value) => check.optionalText(value, 'a version')
const millis = (value) => check.optionalWhole(value, 'ttl')

module.exports = { Batch }
