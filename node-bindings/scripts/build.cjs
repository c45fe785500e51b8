// Builds the native part and puts it beside index.cjs. Needs Rust, and nothing from npm.
'use strict'

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')
const target = path.join(root, 'kappa-core.node')
// `dev` builds faster and runs slower; tests use it.
const profile = process.env.KAPPA_PROFILE ?? 'release'

function fail(message) {
  console.error(`kappa-core: ${message}`)
  process.exit(1)
}

const cargo = process.env.CARGO ?? 'cargo'
const built = spawnSync(
  cargo,
  ['build', '--package', 'kappa-node', '--profile', profile, '--locked', '--message-format=json-render-diagnostics'],
  { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 30 },
)
if (built.error?.code === 'ENOENT') fail('building needs Rust, see https://rustup.rs')
if (built.error) fail(built.error.message)
if (built.status !== 0) fail(`cargo build failed (${built.signal ?? built.status})`)

const messages = built.stdout.toString().split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
const artifacts = messages.filter(({ reason, target }) => reason === 'compiler-artifact' && target.name === 'kappa_node')
const library = artifacts.flatMap(({ filenames }) => filenames).find((file) => /\.(so|dylib|dll)$/.test(file))
if (library === undefined) fail('cargo built no library')

// Renamed into place: a process that has the old file loaded keeps it whole.
const fresh = `${target}.${process.pid}`
fs.copyFileSync(library, fresh)
fs.renameSync(fresh, target)
