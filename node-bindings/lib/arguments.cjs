// Checks of arguments that are no documents: a wrong one is refused before anything is called.
'use strict'

const { invalid } = require('./errors.cjs')

const NONE = Object.freeze({})

/** The options of a call, refused when one is not among `names`. */
function options(given, names) {
  if (given === undefined || given === null) return NONE
  if (typeof given !== 'object' || Array.isArray(given)) throw invalid('options are given as one object')
  for (const name of Object.keys(given)) {
    if (!names.includes(name)) throw invalid(`unknown option; known are ${names.join(', ')} option=${name}`, { option: name })
  }
  return given
}

/** Text that every encoding can hold. */
function text(value, what) {
  if (typeof value !== 'string') throw invalid(`${what} is a string type=${kind(value)}`, { type: kind(value) })
  // Native code would put replacement characters where a lone surrogate stands: another id than the one given.
  if (!value.isWellFormed()) throw invalid(`${what} holds half of a surrogate pair`)
  return value
}

/** As `text`, where it may be left out. */
function optionalText(value, what) {
  return value === undefined || value === null ? undefined : text(value, what)
}

/** A whole number that no digit was lost of. */
function whole(value, what) {
  const number = typeof value === 'bigint' ? Number(value) : value
  if (!Number.isSafeInteger(number)) {
    throw invalid(`${what} is a whole number between -(2^53 - 1) and 2^53 - 1 given=${shown(value)}`)
  }
  return number
}

/** As `whole`, where it may be left out. */
function optionalWhole(value, what) {
  return value === undefined || value === null ? undefined : whole(value, what)
}

/** As `whole`, from 0 up. */
function natural(value, what) {
  const number = whole(value, what)
  if (number < 0) throw invalid(`${what} is a whole number from 0 up given=${number}`)
  return number
}

/** As `natural`, where it may be left out. */
function optionalNatural(value, what) {
  return value === undefined || value === null ? undefined : natural(value, what)
}

/** True or false; false where it is left out. */
function flag(value, what) {
  if (value === undefined || value === null) return false
  if (typeof value !== 'boolean') throw invalid(`${what} is true or false type=${kind(value)}`)
  return value
}

/** Any number. */
function number(value, what) {
  if (typeof value !== 'number') throw invalid(`${what} is a number type=${kind(value)}`)
  return value
}

/** A list of strings. */
function texts(value, what) {
  if (!Array.isArray(value)) throw invalid(`${what} is an array of strings type=${kind(value)}`)
  return Array.from(value, (item) => text(item, `each of ${what}`))
}

/** A signal that may cancel the call. */
function signal(value) {
  if (value === undefined || value === null) return undefined
  if (!(value instanceof AbortSignal)) throw invalid('signal is an AbortSignal')
  return value
}

function kind(value) {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
}

function shown(value) {
  return typeof value === 'number' || typeof value === 'bigint' ? String(value) : kind(value)
}

module.exports = { options, text, optionalText, whole, optionalWhole, natural, optionalNatural, flag, number, texts, signal, kind }
