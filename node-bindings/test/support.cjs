// What several tests need: directories, child processes, and the inner parts of the package.
'use strict'

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const kappa = require('kappa-core')
const root = path.dirname(require.resolve('kappa-core/package.json'))

/** An inner part of the package, for what cannot be seen from outside. */
const inner = (name) => require(path.join(root, 'lib', name))

/** A directory that goes with the test `t`. */
function directory(t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'kappa-node-'))
  t.after(() => fs.rmSync(made, { recursive: true, force: true }))
  return made
}

/** A database in memory that is closed with the test `t`. */
async function inMemory(t, options) {
  const db = await kappa.Kappa.inMemory(options)
  t.after(() => db.close())
  return db
}

/** Runs `code` in a process of its own; a process that does not end is an error, not a hang. */
function run(code, { args = [], within = 30_000, flags = [] } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...flags, '-e', code, ...args], { cwd: __dirname, stdio: ['ignore', 'pipe', 'pipe'] })
    const late = setTimeout(() => child.kill('SIGKILL'), within)
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (data) => { stdout += data })
    child.stderr.on('data', (data) => { stderr += data })
    child.on('error', reject)
    child.on('close', (exit, signal) => {
      clearTimeout(late)
      resolve({ exit, signal, stdout, stderr })
    })
  })
}

/** A server on a database of its own, as `{ url, child }`; it ends with the test `t`. `cargo xtask node` says where the program is. */
async function server(t) {
  const data = fs.mkdtempSync(path.join(os.tmpdir(), 'kappa-node-'))
  const child = spawn(process.env.KAPPA_SERVER, ['--data', data, '--port', '0'], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  const url = await new Promise((resolve, reject) => {
    const hear = (data) => {
      said += data
      const found = said.match(/listens on (http:\S+)/)
      if (found) resolve(found[1])
    }
    child.stdout.on('data', hear)
    child.stderr.on('data', hear)
    child.on('error', reject)
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}: ${said}`)))
  })
  const ended = new Promise((resolve) => child.on('close', resolve))
  t.after(async () => {
    child.kill('SIGKILL')
    await ended
    fs.rmSync(data, { recursive: true, force: true })
  })
  return { url, child }
}

/** How often a test of chance runs: more when there is time. */
const rounds = process.env.KAPPA_SOAK ? 100 : 10

/** The code of the error that `call` fails with; an answer is an error of the test. */
async function failure(call) {
  let answer
  try {
    answer = await call()
  } catch (error) {
    return error
  }
  throw new Error(`answered instead of failing: ${require('node:util').inspect(answer)}`)
}

module.exports = { kappa, root, inner, directory, inMemory, run, server, rounds, failure }
