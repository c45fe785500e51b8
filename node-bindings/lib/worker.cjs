// Workers: handlers for the tasks of a queue.
'use strict'

const { native, call, callNow, same } = require('./port.cjs')
const { jsonText } = require('./text.cjs')
const { invalid, make } = require('./errors.cjs')
const check = require('./arguments.cjs')
const { told, millis } = require('./tasks.cjs')

const OPTIONS = ['concurrency', 'lease', 'grace', 'name']

/** Thrown by a handler when no further run would help: the task is a dead letter at once. */
class Discard extends Error {}
Object.defineProperty(Discard.prototype, 'name', { value: 'Discard', configurable: true, writable: true })

/** A task in the hands of its handler. */
class RunningTask {
  #worker
  #run
  #watch

  constructor(worker, { run, task }) {
    this.#worker = worker
    this.#run = run
    Object.assign(this, told(task))
    // How far an earlier run was is of no use to this one, and would hide the method.
    delete this.progress
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
  #handler
  #running = new Set()
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
    this.#native = callNow(() => native.work(database, JSON.stringify(options)))
    this.#ended = this.#take(reading.nearest)
    // Met by `wait`; a worker that nobody waits for must not end the process.
    this.#ended.catch(() => {})
  }

  /** Claims nothing more, waits for handlers up to the grace, then aborts their signals and hands their tasks back; how many. */
  stop(options) {
    try {
      const grace = millis(check.options(options, ['grace']).grace, 'grace')
      return call((slot) => native.stopWorker(this.#native, slot, grace), same)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Answers once the worker has stopped and its handlers have ended. */
  async wait() {
    await this.#ended
    await Promise.all(this.#running)
  }

  async [Symbol.asyncDispose]() {
    await this.stop()
  }

  async #take(nearest) {
    for (;;) {
      const jobs = await call((slot) => native.nextJobs(this.#native, slot), same, { nearest })
      if (jobs.length === 0) return
      for (const job of jobs) {
        const run = this.#perform(new RunningTask(this.#native, job))
        this.#running.add(run)
        run.finally(() => this.#running.delete(run))
      }
    }
  }

  async #perform(task) {
    const finish = (how, said) => callNow(() => native.finishJob(this.#native, task.id, how, said))
    try {
      const result = await this.#handler(task, task)
      finish('completed', result === undefined ? 'null' : jsonText(result))
    } catch (error) {
      try {
        finish(error instanceof Discard ? 'discarded' : 'failed', described(error))
      } catch {
        // The database is closed, or the run was reported; its lease ends by itself.
      }
    } finally {
      RunningTask.unwatch(task)
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
