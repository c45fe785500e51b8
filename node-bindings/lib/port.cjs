// Calls under way in this environment, and the one place where their answers arrive.
'use strict'

const native = require('./load.cjs')
const { make, thrown, cancelled } = require('./errors.cjs')
const { parseExactly } = require('./text.cjs')

const port = native.attach(settle)
const pending = new Map()
let lastSlot = 0

// What keeps Node running while an answer is awaited. An open database alone does not: a script that has nothing left
// to wait for may end.
const awake = setInterval(() => {}, 2 ** 31 - 1)
awake.unref()

// Also runs at `process.exit` and behind an uncaught exception, where the hooks of native code do not.
process.once('exit', () => {
  try {
    native.end(port)
  } catch {
    // The next open recovers what was not closed; the exit code of the process is not ours to change.
  }
})

/**
 * Starts a call and gives the promise of its answer.
 *
 * `start(slot)` makes the native call. `convert(value, slot)` makes the answer from the value of its text. `options`
 * may hold `signal`, which gives the call up, and `nearest`, which lets numbers lose digits.
 */
function call(start, convert, options) {
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
    const waiting = { resolve, reject, convert, nearest: options?.nearest === true, signal, abort: undefined }
    pending.set(slot, waiting)
    if (text !== null) {
      settle(text)
      return
    }
    if (pending.size === 1) awake.ref()
    if (signal !== undefined) {
      waiting.abort = () => giveUp(slot)
      signal.addEventListener('abort', waiting.abort, { once: true })
    }
  })
}

function giveUp(slot) {
  const waiting = take(slot)
  if (waiting === undefined) return
  discard(slot)
  waiting.reject(cancelled(waiting.signal))
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

module.exports = { native, port, call, callNow, same, nothing }
