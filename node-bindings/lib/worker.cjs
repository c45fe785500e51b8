// Workers: handlers for the tasks of a queue.
'use strict'

const { native, call, callNow, same, soon } = require('./port.cjs')
const { jsonText } = require('./text.cjs')
const { invalid, make } = require('./errors.cjs')
const check = require('./arguments.cjs')
const { millis } = require('./tasks.cjs')

const OPTIONS = ['concurrency', 'lease', 'grace', 'name']

/** Thrown by a handler when no further run would help: the task is a dead letter at once. */
class Discard extends Error {}
Object.defineProperty(Discard.prototype, 'name', { value: 'Discard', configurable: true, writable: true })

/** A task in the hands of its handler. */
class RunningTask {
  #worker
  #run
  #watch

  /** From what `Values` in `src/tasks.rs` writes; at the end the number of the run. */
  constructor(worker, values) {
    this.#worker = worker
    this.#run = values[24]
    // One by one: objects that get their fields in a loop are slow to make, and there is one for each run. How far an earlier
    // run was is of no use to this one, and would hide a method.
    this.id = values[0]
    this.queue = values[1]
    this.kind = values[2]
    this.description = values[3]
    this.params = values[4]
    this.priority = values[5]
    this.state = values[6]
    this.attempt = values[7]
    this.maxAttempts = values[8]
    this.result = values[10]
    this.error = values[11]
    this.createdAt = values[12]
    this.dueAt = values[13]
    this.startedAt = values[14]
    this.finishedAt = values[15]
    this.unique = values[16]
    this.parent = values[17]
    this.worker = values[18]
    this.cancelRequested = values[19]
    this.timeout = values[20]
    this.failures = values[21]
    this.redrives = values[22]
    this.schedule = values[23]
  }

  /** Says how far the run is, from 0 to 1; kept at most once a second, the newest value. */
  progress(progress) {
    callNow(() => native.jobProgress(this.#worker, this.id, check.number(progress, 'progress')))
  }

  /** The task and the number of the run, which rises with each: give it to whatever the run writes to. */
  get fence() {
    return [this.id, this.#run]
  }

  /** Why the run should end; null while it should not. */
  get interrupt() {
    return callNow(() => native.jobInterrupt(this.#worker, this.id))
  }

  /** Whether the run should end; whatever the handler throws then ends it. */
  get cancelled() {
    return this.interrupt !== null
  }

  /** Aborts when the run should end. Made when it is asked for: most handlers are done before they would look. */
  get signal() {
    if (this.#watch === undefined) {
      const abort = new AbortController()
      const done = new AbortController()
      this.#watch = { abort, done }
      const interrupted = call((slot) => native.jobInterrupted(this.#worker, slot, this.id), same, { signal: done.signal })
      interrupted.then(
        (why) => abort.abort(make({ code: 'cancelled', message: 'the run should end', context: { interrupt: why } })),
        // A run that cannot be told anything must not go on as if nothing could happen to it.
        (error) => done.signal.aborted || abort.abort(error),
      )
    }
    return this.#watch.abort.signal
  }

  /** Ends the watch of a run that has ended. */
  static unwatch(task) {
    task.#watch?.done.abort()
  }
}

class Worker {
  #native
  /** Never read: a database that nothing refers to is closed, and its worker would end without a word. */
  #database
  #handler
  /** Handlers that have not ended, and who waits for the last of them. */
  #running = 0
  #idle = []
  /** Numbers and results of runs that ended well and were not reported yet. */
  #completed = []
  #report = () => this.#reportCompleted()
  #ended

  /** Use `db.worker(queue, handler, options)`. */
  constructor(database, queue, handler, given, reading) {
    if (typeof handler !== 'function') throw invalid(`a handler is a function type=${check.kind(handler)}`)
    const { concurrency, lease, grace, name } = check.options(given, OPTIONS)
    const options = {
      queues: Array.isArray(queue) ? check.texts(queue, 'queues') : [check.text(queue, 'the name of a queue')],
      concurrency: check.optionalNatural(concurrency, 'concurrency'),
      lease: millis(lease, 'lease'),
      grace: millis(grace, 'grace'),
      name: check.optionalText(name, 'name'),
    }
    this.#handler = handler
    this.#database = database
    this.#native = callNow(() => native.work(database, JSON.stringify(options)))
    this.#ended = this.#take(reading.nearest)
    // Met by `wait`; a worker that nobody waits for must not end the process.
    this.#ended.catch(() => {})
  }

  /** Claims nothing more, waits for handlers up to the grace, then aborts their signals and hands their tasks back; how many. */
  stop(options) {
    try {
      const grace = millis(check.options(options, ['grace']).grace, 'grace')
      // Otherwise they would be handed back and run again.
      this.#reportCompleted()
      return call((slot) => native.stopWorker(this.#native, slot, grace), same)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Answers once the worker has stopped and its handlers have ended. */
  async wait() {
    await this.#ended
    while (this.#running > 0) await new Promise((resolve) => this.#idle.push(resolve))
    this.#reportCompleted()
  }

  async [Symbol.asyncDispose]() {
    await this.stop()
  }

  async #take(nearest) {
    for (;;) {
      const jobs = await call((slot) => native.nextJobs(this.#native, slot), same, { nearest })
      if (jobs.length === 0) return
      for (const job of jobs) this.#perform(new RunningTask(this.#native, job))
    }
  }

  async #perform(task) {
    this.#running++
    try {
      const result = await this.#handler(task, task)
      this.#completed.push([task.id, result === undefined ? 'null' : jsonText(result)])
      soon(this.#report)
    } catch (error) {
      this.#fail(task.id, error)
    } finally {
      RunningTask.unwatch(task)
      if (--this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve()
    }
  }

  /** Reports all runs of one turn that ended well together: one native call for each would cost more than the reports. */
  #reportCompleted() {
    if (this.#completed.length === 0) return
    const completed = this.#completed
    this.#completed = []
    try {
      // No text of JSON has a line break in it.
      callNow(() => native.finishJobs(this.#native, completed.map(([id, text]) => `${id} ${text}`).join('\n')))
    } catch (error) {
      for (const [id] of completed) this.#fail(id, error)
    }
  }

  #fail(id, error, again = true) {
    try {
      callNow(() => native.finishJob(this.#native, id, error instanceof Discard ? 'discarded' : 'failed', described(error)))
    } catch (met) {
      // Otherwise a run that cannot be reported in the words of its handler would hold its slot for ever. Where that does
      // not help either, the database is closed, or the run was reported; its lease ends by itself.
      if (again) this.#fail(id, met, false)
    }
  }
}

/** What a handler threw, in words. */
function described(error) {
  try {
    const text = error instanceof Discard && error.message !== '' ? error.message : String(error)
    return text.toWellFormed()
  } catch {
    return 'the handler threw what cannot be written'
  }
}

module.exports = { Worker, RunningTask, Discard }
