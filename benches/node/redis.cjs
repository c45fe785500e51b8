// Redis in a process and a directory of its own, which syncs its file before it answers a write.
'use strict'

const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')

const PATIENCE = 10_000

/** Starts the server; null where `redis-server` is not installed. */
async function start(directory) {
  if (spawnSync('redis-server', ['--version']).error) return null
  const place = path.join(directory, 'redis')
  fs.mkdirSync(place)
  const socket = path.join(place, 'socket')
  // Its file is not written anew meanwhile: the second process that does so would weigh on everybody's figures.
  const durable = ['--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0']
  const where = ['--port', '0', '--unixsocket', socket, '--dir', place]
  const child = spawn('redis-server', ['--save', '', ...durable, ...where], { stdio: 'ignore' })
  process.once('exit', () => child.kill('SIGKILL'))
  const end = Date.now() + PATIENCE
  while (!(await listens(socket))) {
    if (Date.now() > end) throw new Error('redis-server does not answer')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const stop = () => new Promise((resolve) => child.once('exit', resolve) && child.kill())
  return { socket, stop }
}

function listens(socket) {
  return new Promise((resolve) => {
    const connection = net.connect(socket)
    connection.once('connect', () => resolve(true)).once('error', () => resolve(false))
    connection.once('connect', () => connection.destroy())
  })
}

module.exports = { start }
