// Documents as JSON text and back, with every digit.
'use strict'

const { randomUUID } = require('node:crypto')
const { types } = require('node:util')
const { invalid, tooLarge, make } = require('./errors.cjs')
const { kind } = require('./arguments.cjs')

// Core allows less; this only ends the walk through an object that contains itself.
const MAX_DEPTH = 64
// A document of 1 MiB has no room for more values. One that names the same object many times over would be walked
// without end otherwise.
const MAX_VALUES = 1 << 20

let values = 0

/** The JSON text of a document that core can keep. */
function toText(document, what = 'a document') {
  if (document === null || typeof document !== 'object' || Array.isArray(document)) {
    throw invalid(`${what} is an object type=${kind(document)}`, { type: kind(document) })
  }
  return jsonText(document)
}

/** The JSON text of any value that core can keep. */
function jsonText(value) {
  values = 0
  try {
    return check(value, 0) ? write(value, 0) : JSON.stringify(value)
  } catch (error) {
    if (error instanceof RangeError) throw tooLarge('the text of the document would be too long')
    throw error
  }
}

/**
 * Refuses what JSON would change or drop without a word: NaN, functions, maps, buffers, missing array elements.
 * Answers whether the value needs `write`, because `JSON.stringify` cannot write it.
 */
function check(value, depth) {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return false
    case 'number':
      checkNumber(value)
      return false
    case 'bigint':
      return true
    case 'object':
      break
    default:
      throw invalid(`a document cannot hold a value of this type type=${typeof value}`, { type: typeof value })
  }
  if (value === null) return false
  if (depth > MAX_DEPTH) throw invalid('a document is nested too deep, or contains itself')
  let slow = false
  if (Array.isArray(value)) {
    count(value.length)
    for (let position = 0; position < value.length; position++) {
      slow = check(value[position], depth + 1) || slow
    }
    return slow
  }
  if (!isPlain(value)) checkExotic(value)
  if (typeof value.toJSON === 'function') return value.toJSON !== Date.prototype.toJSON || !types.isDate(value)
  const names = Object.keys(value)
  count(names.length)
  for (const name of names) {
    const inner = value[name]
    // As in JSON: a field that is undefined is not there.
    if (inner !== undefined) slow = check(inner, depth + 1) || slow
  }
  return slow
}

function count(more) {
  values += more
  if (values > MAX_VALUES) throw tooLarge('a document has at most 1 MiB of text')
}

function checkNumber(number) {
  if (Number.isSafeInteger(number)) return
  if (!Number.isFinite(number)) throw invalid(`JSON has no such number number=${number}`, { number: String(number) })
  // From 1e21 on the text has an exponent, and is read as the number it was.
  if (Number.isInteger(number) && Math.abs(number) < 1e21) {
    throw invalid(`a whole number beyond 2^53 may have lost digits; give it as a BigInt number=${number}`)
  }
}

function isPlain(object) {
  const prototype = Object.getPrototypeOf(object)
  return prototype === Object.prototype || prototype === null
}

function checkExotic(object) {
  if (types.isDate(object)) {
    if (Number.isNaN(object.getTime())) throw invalid('a date is not valid')
    return
  }
  const refused =
    ArrayBuffer.isView(object) || types.isAnyArrayBuffer(object) || types.isMap(object) || types.isSet(object) ||
    types.isWeakMap(object) || types.isWeakSet(object) || types.isPromise(object) || types.isRegExp(object) ||
    types.isBoxedPrimitive(object) || types.isNativeError(object) || types.isGeneratorObject(object) ||
    types.isExternal(object)
  if (refused) {
    const type = object.constructor?.name ?? 'object'
    throw invalid(`a document cannot hold an object of this type; convert it first type=${type}`, { type })
  }
}

/** As `JSON.stringify`, with whole numbers of any size, and with every value that a `toJSON` gives checked. */
function write(value, depth) {
  check1(value, depth)
  if (typeof value === 'bigint') return value.toString()
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) {
    count(value.length)
    return `[${value.map((inner) => write(inner, depth + 1)).join(',')}]`
  }
  if (typeof value.toJSON === 'function') {
    const given = value.toJSON()
    check(given, depth + 1)
    return write(given, depth + 1)
  }
  const fields = []
  for (const name of Object.keys(value)) {
    const inner = value[name]
    if (inner !== undefined) fields.push(`${JSON.stringify(name)}:${write(inner, depth + 1)}`)
  }
  count(fields.length)
  return `{${fields.join(',')}}`
}

/** The value alone, without what it holds: what a `toJSON` or a getter gives may be another one each time. */
function check1(value, depth) {
  if (typeof value !== 'object' || value === null) {
    check(value, depth)
    return
  }
  if (depth > MAX_DEPTH) throw invalid('a document is nested too deep, or contains itself')
  if (!Array.isArray(value) && !isPlain(value)) checkExotic(value)
}

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g

// Stands before the digits of a number while its text is read. Nobody who writes a document can know it.
const MARK = `whole ${randomUUID()} `

/** The value of text in which some number has more digits than `JSON.parse` keeps: such whole numbers become BigInt. */
function parseExactly(text) {
  const marked = text.replace(TOKEN, (token) => {
    if (token[0] === '"') return token
    if (/^-?\d+$/.test(token)) return Number.isSafeInteger(Number(token)) ? token : `"${MARK}${token}"`
    if (!isHeld(token)) {
      const message = `the document has a number that JavaScript cannot hold; read it with numbers: 'nearest' number=${token}`
      throw make({ code: 'unsupported', message, context: { number: token } })
    }
    return token
  })
  return JSON.parse(marked, (_, value) =>
    typeof value === 'string' && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value,
  )
}

/** Whether a number reads back as the same digits. */
function isHeld(token) {
  const number = Number(token)
  return Number.isFinite(number) && scientific(token) === scientific(number.toExponential())
}

function scientific(token) {
  const [mantissa, exponent = '0'] = token.replace(/^-/, '').toLowerCase().split('e')
  const [whole, fraction = ''] = mantissa.split('.')
  const digits = whole + fraction
  const significant = digits.replace(/^0+/, '')
  if (significant === '') return '0'
  const point = whole.length - (digits.length - significant.length)
  return `${significant.replace(/0+$/, '')}e${BigInt(exponent) + BigInt(point)}`
}

/** The value of an answer that came at once; a space before it says that `JSON.parse` would lose digits. */
function parseMarked(text, nearest) {
  return text.charCodeAt(0) === 32 && !nearest ? parseExactly(text) : JSON.parse(text)
}

/** Names as JavaScript writes them: for what Kappa itself says, never for documents. */
function camel(value) {
  if (Array.isArray(value)) return value.map(camel)
  if (value === null || typeof value !== 'object') return value
  const entries = Object.entries(value)
  return Object.fromEntries(entries.map(([name, inner]) => [name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase()), camel(inner)]))
}

/** A collection as it stands, with the names that `declare` takes. */
function collectionInfo({ definition: { indexes, partition_field: partitionField, ttl_ms: ttl }, ...rest }) {
  return { ...rest, definition: { indexes, partitionField, ttl } }
}

module.exports = { toText, jsonText, parseExactly, parseMarked, camel, collectionInfo }
