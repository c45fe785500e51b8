// A list of documents: all of them one after another, or a page at a time.
'use strict'

const { native, call, same } = require('./port.cjs')
const { jsonText } = require('./text.cjs')
const check = require('./arguments.cjs')

const NAMES = ['index', 'equal', 'from', 'to', 'reverse', 'limit', 'pageSize', 'after', 'signal']

// Documents of a page that nobody gave a size: enough that what a page costs by itself does not matter, and few enough
// that reading its text keeps the event loop for a millisecond at most.
const PAGE = 500

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
    const pages = this.#pages()
    for (let page = await pages.next(); page !== null; page = await pages.next()) {
      for (const document of page) documents.push(document)
    }
    return documents
  }

  /** Every document, page by page; the next page is read while this one is used. */
  [Symbol.asyncIterator]() {
    return new Documents(this.#pages())
  }

  #pages() {
    return new Pages(this.#native, { ...this.#wanted, pageSize: this.#wanted.pageSize ?? PAGE }, {
      signal: this.#signal, nearest: this.#nearest, turn: true,
    })
  }

  #page(wanted) {
    return call(
      (slot) => native.page(this.#native, slot, jsonText(wanted)),
      same,
      { signal: this.#signal, nearest: this.#nearest },
    )
  }
}

/** The pages of a list, one after another. */
class Pages {
  #store
  #wanted
  #options
  #walk
  #left

  constructor(store, wanted, options) {
    this.#store = store
    this.#wanted = wanted
    this.#options = options
    this.#left = wanted.limit ?? Infinity
  }

  /** The documents of the next page; null behind the last. */
  async next() {
    if (this.#left <= 0) return null
    const page = await call((slot) => native.nextPage(this.#begun(), slot), same, this.#options)
    this.#left = page === null ? 0 : this.#left - page.length
    return page
  }

  #begun() {
    this.#walk ??= native.walk(this.#store, jsonText(this.#wanted))
    return this.#walk
  }
}

/** The documents of a list, one after another: nothing is waited for while a page has more. */
class Documents {
  #pages
  #page = []
  #at = 0
  // The page that is waited for.
  #coming
  #ended = false

  constructor(pages) {
    this.#pages = pages
  }

  next() {
    if (this.#at < this.#page.length && this.#coming === undefined) {
      return Promise.resolve({ done: false, value: this.#page[this.#at++] })
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined })
    this.#coming ??= this.#turn()
    return this.#coming.then(() => this.next())
  }

  /** Ends the iteration. */
  return(value) {
    this.#end()
    return Promise.resolve({ done: true, value })
  }

  [Symbol.asyncIterator]() {
    return this
  }

  async #turn() {
    try {
      const page = await this.#pages.next()
      if (page === null) this.#end()
      // Whoever ended the iteration meanwhile wants no more of it.
      else if (!this.#ended) [this.#page, this.#at] = [page, 0]
    } catch (error) {
      this.#end()
      throw error
    } finally {
      this.#coming = undefined
    }
  }

  #end() {
    this.#ended = true
    this.#page = []
    this.#pages = undefined
  }
}

module.exports = { List }
