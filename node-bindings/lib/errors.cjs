// Errors: one base class, and one class for each kind that core knows.
'use strict'

/** What every failed call gives. */
class KappaError extends Error {
  constructor(message, details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = details.code ?? 'internal'
    this.operation = details.operation ?? null
    this.context = details.context ?? {}
    this.retryable = details.retryable ?? false
  }
}
Object.defineProperty(KappaError.prototype, 'name', { value: 'KappaError', configurable: true, writable: true })

const KINDS = [
  'invalid_input', 'not_found', 'already_exists', 'conflict', 'version_mismatch', 'too_large', 'overloaded',
  'storage_full', 'unavailable', 'ambiguous', 'index_building', 'expired', 'locked', 'damaged', 'unsupported',
  'cancelled', 'closed', 'internal',
]

const classes = { KappaError }
const byCode = new Map()
for (const code of KINDS) {
  const name = code.replace(/(?:^|_)([a-z])/g, (_, letter) => letter.toUpperCase()) + 'Error'
  const kind = { [name]: class extends KappaError {} }[name]
  Object.defineProperty(kind.prototype, 'name', { value: name, configurable: true, writable: true })
  classes[name] = kind
  byCode.set(code, kind)
}

/** The error that core described. */
function make(details) {
  // A kind that a newer core knows and this file does not is still an error with its code.
  const Kind = byCode.get(details.code) ?? KappaError
  return new Kind(details.message, details)
}

/** What a native call threw, as an error of Kappa. */
function thrown(error) {
  if (error instanceof KappaError) return error
  let details
  try {
    details = JSON.parse(error.message)
  } catch {
    details = undefined
  }
  if (details === null || typeof details !== 'object' || typeof details.code !== 'string') {
    // Only what was made by native code is described; what a getter or `toJSON` of the caller threw stays as it is.
    return error
  }
  return make(details)
}

/** An argument that breaks a rule of this package. */
function invalid(message, context = {}) {
  return make({ code: 'invalid_input', message, context })
}

/** A document or request that is over a limit of this package. */
function tooLarge(message, context = {}) {
  return make({ code: 'too_large', message, context })
}

/** A call that its caller gave up. */
function cancelled(signal) {
  return make({ code: 'cancelled', message: 'the call was cancelled by its caller', cause: signal?.reason })
}

module.exports = { KappaError, classes, make, thrown, invalid, tooLarge, cancelled }
