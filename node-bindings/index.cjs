// What `require('kappa-core')` gives.
'use strict'

const errors = require('./lib/errors.cjs')
const { Kappa } = require('./lib/kappa.cjs')
const { Collection, Products } = require('./lib/store.cjs')
const { List } = require('./lib/list.cjs')
const { Batch } = require('./lib/batch.cjs')
const { Changes } = require('./lib/changes.cjs')
const { Histogram, histogram } = require('./lib/histogram.cjs')
const { Tasks } = require('./lib/tasks.cjs')
const { Worker, RunningTask, Discard } = require('./lib/worker.cjs')
const { cpuInfo } = require('./lib/cpu.cjs')

module.exports = {
  Kappa,
  Collection,
  Products,
  List,
  Batch,
  Changes,
  Tasks,
  Worker,
  RunningTask,
  Discard,
  Histogram,
  histogram,
  cpuInfo,
  ...errors.classes,
}

// For the tests of this package: not part of its interface.
const { native } = require('./lib/port.cjs')
Object.defineProperty(module.exports, '_test', { value: { native } })
