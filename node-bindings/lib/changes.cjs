// Changes of documents as they happen.
'use strict'

const { native, call, same } = require('./port.cjs')
const { invalid, cancelled } = require('./errors.cjs')
const check = require('./arguments.cjs')

class Changes {
  #feed
  #nearest
  #signal
  #ready = []
  #ended = false
  #stop = new AbortController()
  #turn = Promise.resolve()

  /** Use `db.changes(options)`. */
  constructor(database, reading, given) {
    const { after, start, signal } = check.options(given, ['after', 'start', 'signal'])
    if (start !== undefined && start !== 'now' && start !== 'oldest') throw invalid("start is 'now' or 'oldest'")
    const cursor = check.optionalText(after, 'after')
    if (cursor !== undefined && start !== undefined) throw invalid('give either after or start')
    this.#nearest = reading.nearest
    this.#signal = check.signal(signal)
    this.#signal?.addEventListener('abort', this.#abort, { once: true })
    // What happens from now on means from this call on, not from when the first change is asked for.
    this.#feed = call(
      (slot) => native.changes(database, slot, cursor, start === 'oldest'),
      (_, slot) => native.followed(database, slot),
      { signal: this.#stop.signal },
    )
    // The failure is met by the first `next`; a reader who never asks must not end the process.
    this.#feed.catch(() => {})
  }

  /** The next change, as soon as there is one. Calls are answered in the order they were made. */
  next() {
    const turn = this.#turn.then(() => this.#next())
    this.#turn = turn.catch(() => {})
    return turn
  }

  /** Ends the iteration; a `next` that waits is told so. */
  return(value) {
    this.#end()
    return Promise.resolve({ done: true, value })
  }

  /** As `return`. */
  async close() {
    this.#end()
  }

  [Symbol.asyncIterator]() {
    return this
  }

  [Symbol.asyncDispose]() {
    return this.close()
  }

  #abort = () => this.#stop.abort()

  #end() {
    this.#ended = true
    this.#ready = []
    this.#signal?.removeEventListener('abort', this.#abort)
    this.#stop.abort()
  }

  async #next() {
    if (this.#ended) return { done: true, value: undefined }
    try {
      if (this.#signal?.aborted) throw cancelled(this.#signal)
      if (this.#ready.length === 0) this.#ready = (await this.#more()).reverse()
    } catch (error) {
      if (this.#ended) return { done: true, value: undefined }
      this.#end()
      throw this.#signal?.aborted ? cancelled(this.#signal) : error
    }
    return this.#ended ? { done: true, value: undefined } : { done: false, value: this.#ready.pop() }
  }

  async #more() {
    const feed = await this.#feed
    return call((slot) => native.nextChanges(feed, slot), same, { signal: this.#stop.signal, nearest: this.#nearest })
  }
}

module.exports = { Changes }
