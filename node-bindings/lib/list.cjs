// A list of documents: all of them one after another, or a page at a time.
'use strict'

const { native, call, same } = require('./port.cjs')
const { jsonText } = require('./text.cjs')
const check = require('./arguments.cjs')

const NAMES = ['index', 'equal', 'from', 'to', 'reverse', 'limit', 'pageSize', 'after', 'signal']

class List {
  #native
  #nearest
  #wanted
  #signal

  /** Use `collection.list(options)`. */
  constructor(collection, nearest, given) {
    const options = check.options(given, NAMES)
    this.#native = collection
    this.#nearest = nearest
    this.#signal = check.signal(options.signal)
    this.#wanted = {
      index: check.optionalText(options.index, 'index'),
      equal: options.equal,
      from: options.from,
      to: options.to,
      reverse: check.flag(options.reverse, 'reverse'),
      limit: check.optionalNatural(options.limit, 'limit'),
      pageSize: check.optionalNatural(options.pageSize, 'pageSize'),
      after: check.optionalText(options.after, 'after'),
    }
    // Bounds are values of documents: they are checked like those, and whole numbers of any size are possible.
    jsonText(this.#wanted)
  }

  /** One page: `{ items: [{ value, version }], cursor }`; the cursor is null behind the last document. */
  page() {
    return this.#page(this.#wanted)
  }

  /** Every document in order, in an array. Mind the memory: this is for lists that are known to be short. */
  async toArray() {
    const documents = []
    for await (const document of this) documents.push(document)
    return documents
  }

  /** Every document, page by page; the next page is fetched while this one is read. */
  async *[Symbol.asyncIterator]() {
    let wanted = this.#wanted
    let page = await this.#page(wanted)
    for (;;) {
      const left = wanted.limit === undefined ? undefined : wanted.limit - page.items.length
      wanted = { ...wanted, after: page.cursor, limit: left }
      const next = page.cursor === null || left === 0 ? undefined : this.#page(wanted)
      // Its failure is met where it is awaited; a reader who leaves before that must not end the process.
      next?.catch(() => {})
      for (const item of page.items) yield item.value
      if (next === undefined) return
      page = await next
    }
  }

  #page(wanted) {
    return call(
      (slot) => native.page(this.#native, slot, jsonText(wanted)),
      same,
      { signal: this.#signal, nearest: this.#nearest },
    )
  }
}

module.exports = { List }
