// The parallel histogram of random numbers.
'use strict'

const { native, port, call, callNow } = require('./port.cjs')
const { camel, jsonText } = require('./text.cjs')
const { invalid } = require('./errors.cjs')
const check = require('./arguments.cjs')

/** How often each value of a range came up among uniform random draws. */
class Histogram {
  #native
  #counts

  /** Use `histogram(count, options)`. */
  constructor(made, said) {
    if (said === undefined) throw invalid('a histogram is made with `await histogram(count)`')
    this.#native = made
    Object.assign(this, camel(said))
  }

  /** The counts in the order of the values: the first belongs to the start of the range. */
  get counts() {
    this.#counts ??= Array.from(callNow(() => native.counts(this.#native)))
    return this.#counts
  }

  /** The count of `value`; undefined where it lies outside the range. */
  get(value) {
    return this.counts[check.whole(value, 'a value') - this.range[0]]
  }

  /** A picture of the counts as one SVG document. */
  toSvg(width = 960, height = 320) {
    const size = [check.natural(width, 'width'), check.natural(height, 'height')].map((pixels) => Math.min(pixels, 8192))
    return callNow(() => native.svg(this.#native, ...size))
  }

  toJSON() {
    return { ...this, counts: this.counts }
  }
}

/** Counts how often each value of a range comes up; see `HistogramOptions`. */
async function histogram(count, given) {
  const { range, seed, method, threads, signal } = check.options(given, ['range', 'seed', 'method', 'threads', 'signal'])
  const asked = {
    count: check.optionalNatural(count, 'count'),
    range: range === undefined || range === null ? undefined : bounds(range),
    seed: seed === undefined || seed === null ? undefined : seedOf(seed),
    method: check.optionalText(method, 'method'),
    threads: check.optionalNatural(threads, 'threads'),
  }
  return call(
    (slot) => native.histogram(port, slot, jsonText(asked)),
    (said, slot) => new Histogram(native.drawn(port, slot), said),
    { signal: check.signal(signal) },
  )
}

function bounds(range) {
  if (!Array.isArray(range) || range.length !== 2) throw invalid('range is [start, end], both included')
  return range.map((bound) => check.whole(bound, 'a bound of the range'))
}

function seedOf(seed) {
  if (typeof seed === 'bigint' && seed >= 0n && seed < 1n << 64n) return seed
  return check.natural(seed, 'seed')
}

module.exports = { Histogram, histogram }
