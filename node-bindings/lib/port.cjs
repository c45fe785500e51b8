// Calls under way in this environment, and the one place where their answers arrive.
'use strict'

// Taken here, so that answers also come where a test has put timers of its own in place of these.
const { setImmediate, setInterval } = require('node:timers')
const native = require('./load.cjs')
const { make, thrown, cancelled } = require('./errors.cjs')
const { toText, parseExactly } = require('./text.cjs')

// Calls that are handed over together hold no more text than this, and are no more than these.
const GATHERED_LENGTH = 256 * 1024
const GATHERED = 256

const port = native.attach(arrived)
const pending = new Map()
let lastSlot = 0
// Calls that the native part does not have yet.
let gathered = null
// What else it must be told before the process ends.
const unsaid = new Set()

// What keeps Node running while an answer is awaited. An open database alone does not: a script that has nothing left
// to wait for may end.
const awake = setInterval(() => {}, 2 ** 31 - 1)
awake.unref()

// Also runs at `process.exit` and behind an uncaught exception, where the hooks of native code do not.
process.once('exit', () => {
  try {
    flush()
    for (const say of unsaid) say()
    native.end(port)
  } catch {
    // The next open recovers what was not closed; the exit code of the process is not ours to change.
  }
})

/**
 * Starts a call and gives the promise of its answer.
 *
 * `start(slot)` makes the native call. `convert(value, slot)` makes the answer from the value of its text. `options`
 * may hold `signal`, which gives the call up, `nearest`, which lets numbers lose digits, and `turn`, which hands also an
 * answer that is there at once over in a turn of the event loop of its own.
 */
function call(start, convert, options) {
  flush()
  return new Promise((resolve, reject) => {
    const signal = options?.signal
    if (signal?.aborted) {
      reject(cancelled(signal))
      return
    }
    const slot = ++lastSlot
    let text
    try {
      text = start(slot)
    } catch (error) {
      reject(thrown(error))
      return
    }
    // `start` refers to the database, which is closed when nothing does: not as long as an answer is awaited.
    const waiting = { resolve, reject, convert, nearest: options?.nearest === true, signal, abort: undefined, held: start }
    pending.set(slot, waiting)
    if (text !== null && options?.turn !== true) {
      settle(text)
      return
    }
    if (pending.size === 1) awake.ref()
    if (text !== null) setImmediate(settle, text)
    if (signal !== undefined) {
      waiting.abort = () => giveUp(slot)
      signal.addEventListener('abort', waiting.abort, { once: true })
    }
  })
}

/**
 * Makes a call without options, and gives the promise of its answer. Calls of one turn that go to the same `target` by the
 * same native function `hand` are handed over together as soon as their callers have come to an end, or something else
 * is called, or there are `most`: one native call for each costs more than the writes themselves. `write` makes the text
 * of the call.
 */
function together(hand, target, write, { convert, nearest, most = GATHERED }) {
  return new Promise((resolve, reject) => {
    let text
    try {
      text = write()
    } catch (error) {
      reject(thrown(error))
      return
    }
    if (gathered === null || gathered.target !== target || gathered.hand !== hand || gathered.length + text.length > GATHERED_LENGTH) {
      flush()
      gathered = { hand, target, first: lastSlot + 1, texts: [], length: 0 }
      process.nextTick(flush)
    }
    gathered.length += text.length
    gathered.texts.push(text)
    pending.set(++lastSlot, { resolve, reject, convert, nearest, signal: undefined, abort: undefined, held: target })
    if (pending.size === 1) awake.ref()
    if (gathered.texts.length >= most) flush()
  })
}

/** Hands over the calls that have gathered. */
function flush() {
  if (gathered === null) return
  const { hand, target, first, texts } = gathered
  gathered = null
  let text
  try {
    // No text of JSON has a line break in it.
    text = hand(target, first, texts.join('\n'))
  } catch (error) {
    const failed = thrown(error)
    texts.forEach((_, position) => take(first + position)?.reject(failed))
    return
  }
  // Not now: callers who go on with another call at once would keep the loop for as long as their answers come at once.
  if (text !== null) setImmediate(settle, text)
}

/** Calls `say` once what runs now has come to an end, at the latest before the process ends. */
function soon(say) {
  if (unsaid.has(say)) return
  unsaid.add(say)
  process.nextTick(() => unsaid.delete(say) && say())
}

function giveUp(slot) {
  const waiting = take(slot)
  if (waiting === undefined) return
  discard(slot)
  waiting.reject(cancelled(waiting.signal))
}

/** Hands over answers, and asks for those that come meanwhile in a turn of their own: timers and I/O go on in between. */
function arrived(text) {
  setImmediate(more)
  settle(text)
}

function more() {
  let text
  try {
    text = native.gather(port)
  } catch {
    // A defect: what it was about is lost, but nobody else's answer may be.
    text = ''
  }
  if (text !== null) arrived(text)
}

/** Hands the answers of `text` to their callers: a number, a kind and a value for each. */
function settle(text) {
  if (text === '') return
  const answers = JSON.parse(text)
  for (let at = 0; at < answers.length; at += 3) {
    const slot = answers[at]
    const waiting = take(slot)
    if (waiting === undefined) continue
    try {
      const value = answers[at + 2]
      if (answers[at + 1] === 1) waiting.reject(make(value))
      else waiting.resolve(waiting.convert(answers[at + 1] === 0 ? value : read(value, waiting.nearest), slot))
    } catch (error) {
      discard(slot)
      waiting.reject(thrown(error))
    }
  }
}

/** Drops what a call does or has made. Also runs inside event listeners, where an error would end the process. */
function discard(slot) {
  try {
    native.cancel(port, slot)
  } catch {
    // It goes with its environment.
  }
}

function read(text, nearest) {
  return nearest ? JSON.parse(text) : parseExactly(text)
}

function take(slot) {
  const waiting = pending.get(slot)
  if (waiting === undefined) return undefined
  pending.delete(slot)
  if (pending.size === 0) awake.unref()
  if (waiting.abort !== undefined) waiting.signal.removeEventListener('abort', waiting.abort)
  return waiting
}

/** Makes a call that answers at once. */
function callNow(make) {
  try {
    return make()
  } catch (error) {
    throw thrown(error)
  }
}

const same = (value) => value
const nothing = () => undefined

module.exports = { native, port, call, together, soon, callNow, same, nothing }
