// Finds the native part: one that was built for this platform beforehand, or the one built here.
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { version } = require('../package.json')

const root = path.join(__dirname, '..')

function libc() {
  if (process.platform !== 'linux') return ''
  // glibc names its version in the report; musl does not.
  return process.report.getReport().header.glibcVersionRuntime === undefined ? '-musl' : ''
}

function load() {
  const tried = []
  for (const name of [`kappa-core.${process.platform}-${process.arch}${libc()}.node`, 'kappa-core.node']) {
    const file = path.join(root, name)
    if (!fs.existsSync(file)) {
      tried.push(`${name}: not there`)
      continue
    }
    try {
      const native = require(file)
      const made = native.version?.()
      if (made === version) return native
      tried.push(`${name}: made for ${made === undefined ? 'an older version' : `version ${made}`}, and this is ${version}`)
    } catch (error) {
      tried.push(`${name}: ${error.message}`)
    }
  }
  throw new Error(
    `kappa-core: no native part for ${process.platform}-${process.arch}. Build it with ` +
      `\`npm run build --prefix ${root}\` (needs Rust). Tried:\n  ${tried.join('\n  ')}`,
  )
}

module.exports = load()
