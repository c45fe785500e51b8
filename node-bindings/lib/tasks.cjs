// The task queue.
'use strict'

const { native, call, together, callNow } = require('./port.cjs')
const { jsonText } = require('./text.cjs')
const { invalid } = require('./errors.cjs')
const check = require('./arguments.cjs')
const { watched } = require('./progress.cjs')

const NEW_TASK = [
  'kind', 'description', 'priority', 'delay', 'dueAt', 'attempts', 'backoff', 'timeout', 'unique', 'parent',
]
const DESCRIBED = ['queue', 'params', ...NEW_TASK]
// Tasks that are handed over together: while they become durable, the event loop makes the next ones. With all of many
// calls in one hand each side would wait for the other.
const GATHERED = 32
const NONE = Object.freeze({})
const SETTINGS = [
  'concurrency', 'rate', 'maxLength', 'keep', 'keepCount', 'keepFailed', 'attempts', 'backoff', 'timeout', 'retryBudget',
]
const SCHEDULE = ['cron', 'timeZone', 'task', 'misfire', 'paused']
/** Names of documents' own within what Kappa says: what is below them keeps its names. */
const OWN = new Set(['params', 'result'])

class Tasks {
  #native
  #nearest

  /** Use `db.tasks`. */
  constructor(database, reading) {
    this.#native = database
    this.#nearest = reading.nearest
  }

  /** Adds a task; `existing` says that another one held the unique key, and is the one given. */
  enqueue(queue, params, options) {
    if (options === undefined || options === null) {
      return together(native.enqueueEach, this.#native, () => taskText(queue, params, NONE), { convert: taskObject, nearest: this.#nearest, most: GATHERED })
    }
    return this.#call(options, [...NEW_TASK, 'idempotencyKey'], (given) => `{"enqueue":${taskText(queue, params, given)}}`)
  }

  /** Adds at most 1 000 tasks, all or none. */
  enqueueMany(tasks, options) {
    const texts = () => {
      if (!Array.isArray(tasks)) throw invalid(`tasks is an array type=${check.kind(tasks)}`)
      return `{"enqueue_many":[${tasks.map(describedText).join(',')}]}`
    }
    return this.#call(options, [], texts)
  }

  /** One task, or null. */
  get(id, options) {
    return this.#call(options, [], () => `{"get":${check.natural(id, 'the number of a task')}}`)
  }

  /** The task once it has ended; with `progress`, how far it is is drawn where somebody waits at a terminal. */
  wait(id, options) {
    const ended = this.#started(options, ['progress'], (slot, { progress }) => {
      check.flag(progress, 'progress')
      return native.taskEnded(this.#native, slot, check.natural(id, 'the number of a task'))
    })
    return options?.progress ? watched(ended, () => this.get(id)) : ended
  }

  /** Every task of a queue and a state, or of all, a page at a time behind the scenes. */
  async * list(options) {
    const { queue, state, limit, pageSize, after, signal } = check.options(options, ['queue', 'state', 'limit', 'pageSize', 'after', 'signal'])
    let left = check.optionalNatural(limit, 'limit') ?? Infinity
    let cursor = after
    while (left > 0) {
      const size = Math.min(left, check.optionalNatural(pageSize, 'pageSize') ?? 100)
      const { items, cursor: next } = await this.page({ queue, state, limit: size, after: cursor, signal })
      yield * items
      if (next === null) return
      left -= items.length
      cursor = next
    }
  }

  /** One page of at most 1 000 tasks. */
  page(options) {
    const wanted = ({ queue, state, limit, after }) =>
      JSON.stringify({
        list: {
          queue: check.optionalText(queue, 'queue'),
          state: check.optionalText(state, 'state'),
          limit: check.optionalNatural(limit, 'limit'),
          after: check.optionalText(after, 'after'),
        },
      })
    const page = ({ tasks, next }) => ({ items: tasks.map(told), cursor: next })
    return this.#call(options, ['queue', 'state', 'limit', 'after'], wanted, page)
  }

  /** Cancels a task; `changed` says whether the call changed it. */
  cancel(id, options) {
    return this.#call(options, [], () => `{"cancel":${check.natural(id, 'the number of a task')}}`)
  }

  /** Brings back a task that failed for good or was cancelled; a delayed one may run at once. */
  retry(id, options) {
    return this.#call(options, [], () => `{"retry":${check.natural(id, 'the number of a task')}}`)
  }

  /** Brings back dead letters of a queue, oldest first; how many. */
  async redrive(queue, options) {
    let redriven = 0
    let after
    let wanted
    const given = ({ limit }) => {
      wanted = check.optionalNatural(limit, 'limit') ?? 1000
      return JSON.stringify({ redrive: { queue: name(queue), limit: wanted - redriven, after } })
    }
    do {
      const step = await this.#call(options, ['limit'], given)
      redriven += step.redriven
      after = step.next
    } while (after && redriven < wanted)
    return redriven
  }

  /** Forgets a task that does not run; whether there was one. */
  remove(id, options) {
    return this.#call(options, [], () => `{"remove":${check.natural(id, 'the number of a task')}}`)
  }

  /** Every queue that was used or configured. */
  queues(options) {
    return this.#call(options, [], () => '"queues"')
  }

  /** One queue as it stands. */
  queue(queue, options) {
    return this.#call(options, [], () => JSON.stringify({ queue: { queue: name(queue) } }))
  }

  /** Sets what holds for a queue, all of it. */
  configure(queue, settings, options) {
    const given = () => JSON.stringify({ configure: { queue: name(queue), settings: queueSettings(settings) } })
    return this.#call(options, [], given)
  }

  /** Lets no worker claim from a queue; tasks that run go on. */
  pause(queue, options) {
    return this.#call(options, [], () => JSON.stringify({ pause: { queue: name(queue), paused: true } }))
  }

  /** Lets workers claim again. */
  resume(queue, options) {
    return this.#call(options, [], () => JSON.stringify({ pause: { queue: name(queue), paused: false } }))
  }

  /** Cancels everything in a queue that waits or is delayed; tasks that run go on. */
  async drain(queue, options) {
    while (await this.#call(options, [], () => JSON.stringify({ drain: { queue: name(queue) } })));
  }

  /**
   * Enqueues a task again and again; a schedule of the same name is replaced. Where its times stay the same, what it has
   * missed is still made up for as its misfire rule says. Its parameters have at most 512 KiB.
   */
  putSchedule(schedule, given, options) {
    return this.#call(options, [], () => `{"put_schedule":${scheduleText(schedule, given)}}`, (info) => ({
      ...told(info), schedule: { ...told(info.schedule), task: told(info.schedule.task) },
    }))
  }

  /** Ends a schedule; whether there was one. */
  removeSchedule(schedule, options) {
    return this.#call(options, [], () => JSON.stringify({ remove_schedule: { name: check.text(schedule, 'the name of a schedule') } }))
  }

  /** Every schedule, by name. */
  schedules(options) {
    return this.#call(options, [], () => '"schedules"')
  }

  #call(options, names, given, convert = told) {
    const begin = (slot, said) =>
      native.task(this.#native, slot, given(said), check.optionalText(said.idempotencyKey, 'an idempotency key'))
    return this.#started(options, names, begin, convert)
  }

  #started(options, names, begin, convert = told) {
    try {
      const said = check.options(options, [...names, 'signal'])
      return call((slot) => begin(slot, said), convert, { signal: check.signal(said.signal), nearest: this.#nearest })
    } catch (error) {
      return Promise.reject(error)
    }
  }
}

const name = (value) => check.text(value, 'the name of a queue')

/** A number of milliseconds, or a text such as `5s`. */
function millis(value, what) {
  if (value === undefined || value === null) return undefined
  return typeof value === 'string' ? callNow(() => native.milliseconds(check.text(value, what))) : check.natural(value, what)
}

function backoff(value) {
  if (value === undefined || value === null) return undefined
  if (Array.isArray(value)) return { custom: { ms: value.map((one) => millis(one, 'backoff')) } }
  if (typeof value !== 'object') return { fixed: { ms: millis(value, 'backoff') } }
  const { base, cap } = check.options(value, ['base', 'cap'])
  return { exponential: { base_ms: millis(base, 'base'), cap_ms: millis(cap, 'cap') } }
}

/** What core calls an option of a task, and its value. */
const WRITTEN = {
  kind: (value) => ['kind', check.text(value, 'kind')],
  description: (value) => ['description', check.text(value, 'description')],
  priority: (value) => ['priority', check.whole(value, 'priority')],
  delay: (value) => ['delay_ms', millis(value, 'delay')],
  dueAt: (value) => ['due_at', check.whole(value instanceof Date ? value.getTime() : value, 'dueAt')],
  attempts: (value) => ['attempts', check.natural(value, 'attempts')],
  backoff: (value) => ['backoff', backoff(value)],
  timeout: (value) => ['timeout_ms', millis(value, 'timeout')],
  unique: (value) => ['unique', check.text(value, 'unique')],
  parent: (value) => ['parent', check.natural(value, 'parent')],
}

/** A task that is asked for, as core reads it. The parameters are JSON text by themselves: a BigInt keeps its digits. */
function taskText(queue, params, given) {
  let text = `{"queue":${JSON.stringify(name(queue))}`
  for (const option of NEW_TASK) {
    const value = given[option]
    if (value === undefined || value === null) continue
    const [field, written] = WRITTEN[option](value)
    text += `,"${field}":${JSON.stringify(written)}`
  }
  return params === undefined ? `${text}}` : `${text},"params":${jsonText(params)}}`
}

/** The same, from one object. */
function describedText(given) {
  const described = check.options(given, DESCRIBED)
  return taskText(described.queue, described.params, described)
}

function queueSettings(given) {
  const { concurrency, rate, maxLength, keep, keepCount, keepFailed, attempts, backoff: rule, timeout, retryBudget } = check.options(given, SETTINGS)
  const { count, per } = check.options(rate, ['count', 'per'])
  const { percent, perSecond } = check.options(retryBudget, ['percent', 'perSecond'])
  return {
    concurrency: check.optionalNatural(concurrency, 'concurrency'),
    rate: rate === undefined || rate === null ? undefined : { count: check.natural(count, 'count'), per_ms: millis(per, 'per') },
    max_length: check.optionalNatural(maxLength, 'maxLength'),
    keep_ms: millis(keep, 'keep'),
    keep_count: check.optionalNatural(keepCount, 'keepCount'),
    keep_failed_ms: millis(keepFailed, 'keepFailed'),
    attempts: check.optionalNatural(attempts, 'attempts'),
    backoff: backoff(rule),
    timeout_ms: millis(timeout, 'timeout'),
    retry_budget: {
      percent: check.optionalNatural(percent, 'percent'),
      per_second: check.optionalNatural(perSecond, 'perSecond'),
    },
  }
}

function scheduleText(schedule, given) {
  const { cron, timeZone, task, misfire, paused } = check.options(given, SCHEDULE)
  const rest = JSON.stringify({
    name: check.text(schedule, 'the name of a schedule'),
    cron: check.text(cron, 'cron'),
    time_zone: check.optionalText(timeZone, 'timeZone'),
    misfire: check.optionalText(misfire, 'misfire'),
    paused: check.flag(paused, 'paused'),
  })
  return `${rest.slice(0, -1)},"task":${describedText(task)}}`
}

/** A task that was added, from what `Values` in `src/tasks.rs` writes; at the end whether it was there before. */
function taskObject(values) {
  return {
    id: values[0],
    queue: values[1],
    kind: values[2],
    description: values[3],
    params: values[4],
    priority: values[5],
    state: values[6],
    attempt: values[7],
    maxAttempts: values[8],
    progress: values[9],
    result: values[10],
    error: values[11],
    createdAt: values[12],
    dueAt: values[13],
    startedAt: values[14],
    finishedAt: values[15],
    unique: values[16],
    parent: values[17],
    worker: values[18],
    cancelRequested: values[19],
    timeout: values[20],
    failures: values[21],
    redrives: values[22],
    schedule: values[23],
    existing: values[24],
  }
}

/** What Kappa says, by the names of JavaScript: durations without their unit, which is milliseconds everywhere. */
function told(value) {
  if (Array.isArray(value)) return value.map(told)
  if (value === null || typeof value !== 'object') return value
  const made = {}
  for (const name of Object.keys(value)) {
    const inner = value[name]
    made[named(name)] = inner === null || typeof inner !== 'object' || OWN.has(name) ? inner : told(inner)
  }
  return made
}

const NAMES = new Map()

function named(name) {
  let known = NAMES.get(name)
  if (known === undefined) {
    known = name.replace(/_ms$/, '').replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
    NAMES.set(name, known)
  }
  return known
}

module.exports = { Tasks, NEW_TASK, taskText, taskObject, millis, told }
