// The task queue of the scenarios; `begin` and `finish` are a worker with its handler.
'use strict'

const assert = require('node:assert/strict')
const { kappa } = require('./support.cjs')

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** Longer than any handler waits, in milliseconds; only a lost task makes a test wait for it. */
const PATIENCE = 60_000
/** Durations, whose unit the names of JavaScript leave out. */
const DURATIONS = new Set(['delay', 'timeout', 'base', 'cap', 'per', 'keep', 'keepFailed', 'headWaits', 'overdue'])
/** What belongs to documents, not to the queue. */
const OWN = new Set(['params', 'result'])

function backoff(rule) {
  if (rule.fixed) return rule.fixed.ms
  if (rule.custom) return rule.custom.ms
  return { base: rule.exponential.base_ms, cap: rule.exponential.cap_ms }
}

const described = (task) => ({ queue: task.queue, ...(task.params === undefined ? {} : { params: task.params }), ...options(task) })

/** Arguments as options of JavaScript, but for those that have a place of their own. */
function options(names) {
  const given = Object.entries(names).filter(([name]) => !['call', 'id', 'name', 'queue', 'params', 'task', 'tasks', 'settings'].includes(name))
  return Object.fromEntries(given.map(([name, value]) => {
    if (name === 'backoff') return [name, backoff(value)]
    if (name === 'rate') return [name, { count: value.count, per: value.per_ms }]
    if (name === 'retry_budget') return ['retryBudget', options(value)]
    return [camel(name.replace(/_ms$/, '')), value]
  }))
}

/** What Kappa says, in the names of the files. */
function told(value) {
  if (Array.isArray(value)) return value.map(told)
  if (value === null || typeof value !== 'object') return value
  const named = (name) => snake(name) + (DURATIONS.has(name) ? '_ms' : '')
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [named(name), OWN.has(name) ? inner : told(inner)]))
}

/** Tasks that handlers are in the middle of: of each database by queue. */
const begun = new WeakMap()

/** Starts a worker whose handler waits for `finish`. */
async function begin(db, on) {
  let end
  const ending = new Promise((resolve) => { end = resolve })
  let worker
  const id = await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('there is no task to begin')), PATIENCE)
    worker = db.worker(on, async (task, { signal }) => {
      clearTimeout(late)
      resolve(task.id)
      const how = await ending
      if ('cancelled' in how && !signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
      return outcome(how)
    })
  })
  if (!begun.has(db)) begun.set(db, new Map())
  begun.get(db).set(on, { worker, end, id })
  return db.tasks.get(id)
}

async function finish(db, { queue, ...how }) {
  const { worker, end, id } = begun.get(db).get(queue)
  begun.get(db).delete(queue)
  end(how)
  assert.equal(await worker.stop(), 0, 'the handler does not end')
  return db.tasks.get(id)
}

function outcome(how) {
  if ('discard' in how) throw new kappa.Discard(how.discard)
  if (!('result' in how)) throw new Error(how.error ?? 'stopped')
  return how.result
}

async function all(list) {
  const found = []
  for await (const task of list) found.push(task)
  return found
}

const CALLS = {
  enqueue: ({ tasks }, { queue, params, ...rest }) => tasks.enqueue(queue, params, options(rest)),
  enqueue_many: (db, { tasks }) => db.tasks.enqueueMany(tasks.map(described)),
  get: ({ tasks }, { id }) => tasks.get(id),
  wait: ({ tasks }, { id }) => tasks.wait(id, { signal: AbortSignal.timeout(PATIENCE) }),
  page: ({ tasks }, { queue, ...rest }) => tasks.page({ queue, ...options(rest) }),
  list: ({ tasks }, { queue, ...rest }) => all(tasks.list({ queue, ...options(rest) })),
  cancel: ({ tasks }, { id }) => tasks.cancel(id),
  retry: ({ tasks }, { id }) => tasks.retry(id),
  remove: ({ tasks }, { id }) => tasks.remove(id),
  redrive: ({ tasks }, { queue, ...rest }) => tasks.redrive(queue, options(rest)),
  queues: ({ tasks }) => tasks.queues(),
  queue: ({ tasks }, { queue }) => tasks.queue(queue),
  configure: ({ tasks }, { queue, settings }) => tasks.configure(queue, options(settings)),
  pause: ({ tasks }, { queue }) => tasks.pause(queue),
  resume: ({ tasks }, { queue }) => tasks.resume(queue),
  drain: ({ tasks }, { queue }) => tasks.drain(queue),
  put_schedule: ({ tasks }, { name, task, ...rest }) => tasks.putSchedule(name, { task: described(task), ...options(rest) }),
  remove_schedule: ({ tasks }, { name }) => tasks.removeSchedule(name),
  schedules: ({ tasks }) => tasks.schedules(),
  begin: (db, { queue }) => begin(db, queue),
  finish,
}

/** One call of the queue. */
async function perform(db, method, names) {
  assert.ok(CALLS[method], `this runner does not know tasks.${method}`)
  return told(await CALLS[method](db, names))
}

module.exports = { all, options, perform, told }
