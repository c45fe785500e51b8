// Types of `require('kappa-core')`; `index.d.mts` gives the same to `import`.

/** Any JSON object. Whole numbers beyond 2^53 are read as `bigint`, unless the database was opened with `numbers: 'nearest'`. */
export type Document = { [field: string]: any }

/** A document as it is stored: with its id. */
export type Stored<T = Document> = T & { id: string }

/** Fields to set; null removes one (RFC 7396). */
export type Patch<T = Document> = { [K in keyof T]?: T[K] extends object ? Patch<T[K]> | T[K] | null : T[K] | null }

/** A document with its version. */
export interface Entry<T = Document> {
  value: Stored<T>
  /** A whole number as text: too large for `number`. */
  version: string
}

/** Some documents in order, and where to go on. */
export interface Page<T = Document> {
  items: Entry<T>[]
  /** Give it as `after`; null when this was the last page. */
  cursor: string | null
}

/** What every call that answers later takes. */
export interface CallOptions {
  /** Gives the call up: it fails with `CancelledError`. A write that is under way may still happen. */
  signal?: AbortSignal | null
}

export interface CreateOptions extends CallOptions {
  /** How long the document lives, in milliseconds: 1 ms to 100 years. */
  ttl?: number | null
  /** Makes the write safe to repeat for 24 h: the same key and content get the first answer again. */
  idempotencyKey?: string | null
}

export interface WriteOptions extends CreateOptions {
  /** Refused with `VersionMismatchError` unless the document has this version. */
  ifVersion?: string | null
}

export type DeleteOptions = Omit<WriteOptions, 'ttl'>

export interface ListOptions extends CallOptions {
  /** In the order of this index, which leaves documents without its field out. */
  index?: string | null
  /** Only documents with this value; needs an index. */
  equal?: unknown
  /** From this value on, itself included; needs an index. */
  from?: unknown
  /** Up to this value, itself included; needs an index. */
  to?: unknown
  /** Last documents first. */
  reverse?: boolean | null
  /** At most this many documents in all. */
  limit?: number | null
  /**
   * How many documents are fetched at a time: 1 to 1 000; unless it is said, 100 for one page and 500 for a whole list, whose
   * first pages are smaller. Each page is as things stand when it is read.
   */
  pageSize?: number | null
  /** Behind the page that gave this cursor. */
  after?: string | null
}

/** One index. */
export interface Index {
  /** The top-level field it orders by. */
  field: string
  /** How queries name it; as its field where this is left out. */
  name?: string | null
  /** Whether two documents may not share a value. */
  unique?: boolean | null
}

export interface Declaration {
  /** Indexes that must exist; ones not named stay. */
  indexes?: (string | Index)[] | null
  /** How long documents live unless the write says otherwise, in milliseconds. */
  ttl?: number | null
  /** The field whose value decides the partition. */
  partitionField?: string | null
}

/** A collection as it stands. */
export interface CollectionInfo {
  name: string
  definition: {
    indexes: { name: string; field: string; unique: boolean }[]
    partitionField: string | null
    ttl: number | null
  }
  /** Indexes that are still being built. */
  building: string[]
  /** Indexes that could not be built. */
  failed: { index: string; code: string; detail: string }[]
  count: number
}

/** A list of documents: `for await` gives all of them, a page at a time behind the scenes. */
export declare class List<T = Document> implements AsyncIterable<Stored<T>> {
  private constructor()
  /** The first page. */
  page(): Promise<Page<T>>
  /** Every document at once: for lists that are known to be short. */
  toArray(): Promise<Stored<T>[]>
  [Symbol.asyncIterator](): AsyncIterableIterator<Stored<T>>
}

/** The documents of one collection. */
export declare class Collection<T = Document> {
  protected constructor()
  readonly name: string
  /** Adds a document, with a UUID v7 as its id where it names none. */
  create(document: T & { id?: string }, options?: CreateOptions | null): Promise<Stored<T>>
  /** One document, or null. */
  get(id: string, options?: CallOptions | null): Promise<Stored<T> | null>
  /** As `get`, at once: the event loop waits for the disk when the document is not in memory. */
  getSync(id: string): Stored<T> | null
  /** One document with its version, or null. */
  entry(id: string, options?: CallOptions | null): Promise<Entry<T> | null>
  /** As `entry`, at once. */
  entrySync(id: string): Entry<T> | null
  /** At most 1 000 documents in the order asked, null where there is none. */
  getMany(ids: readonly string[], options?: CallOptions | null): Promise<(Stored<T> | null)[]>
  /** As `getMany`, at once. */
  getManySync(ids: readonly string[]): (Stored<T> | null)[]
  /** Sets all fields of a document. */
  replace(id: string, document: T & { id?: string }, options?: WriteOptions | null): Promise<Stored<T>>
  /** Sets the fields that the patch names; null removes one. */
  update(id: string, patch: Patch<T>, options?: WriteOptions | null): Promise<Stored<T>>
  /** Removes a document; answers whether there was one. */
  delete(id: string, options?: DeleteOptions | null): Promise<boolean>
  /** How many documents there are; ones whose time just ended may still be counted. */
  count(options?: CallOptions | null): Promise<number>
  /** As `count`, at once. */
  countSync(): number
  /** The documents in creation order, or as the options say. */
  list(options?: ListOptions | null): List<T>
  /** One page of `list` with the same options. */
  page(options?: ListOptions | null): Promise<Page<T>>
  /** Makes sure that indexes and rules hold, and waits until new indexes hold every document. */
  declare(declaration?: (Declaration & CallOptions) | null): Promise<CollectionInfo>
  /** Removes an index. */
  dropIndex(index: string, options?: CallOptions | null): Promise<CollectionInfo>
  /** The collection as it stands. */
  describe(options?: CallOptions | null): Promise<CollectionInfo>
}

/** What every product has; other fields are your own. */
export interface Product extends Document {
  title: string
  /** From 0 up. */
  price: number
  thumbnail?: string | null
}

/** What a user may have; other fields are your own. */
export interface User extends Document {
  name?: string | null
  email?: string | null
  group?: number | null
}

/** The collection of products. */
export declare class Products<T = Product> extends Collection<T> {
  /** Products that are made up: the same for the same seed, and not stored. At most 100 000. */
  mock(count: number, seed?: number): Promise<Stored<Product>[]>
}

/** Writes that happen together or not at all: at most 1 000. Nothing happens before `commit`. */
export declare class Batch {
  private constructor()
  create(collection: string, document: Document, options?: { ttl?: number | null } | null): this
  replace(collection: string, id: string, document: Document, options?: { ifVersion?: string | null; ttl?: number | null } | null): this
  update(collection: string, id: string, patch: Document, options?: { ifVersion?: string | null; ttl?: number | null } | null): this
  delete(collection: string, id: string, options?: { ifVersion?: string | null } | null): this
  /** Runs all of it; gives for each operation the document it wrote, or whether it deleted one. */
  commit(options?: ({ idempotencyKey?: string | null } & CallOptions) | null): Promise<(Stored | boolean | (Task & { existing: boolean }))[]>
  /** Adds a task: it exists if the documents do. */
  enqueue(queue: string, params?: unknown, options?: TaskOptions | null): this
}

/** One change of one document. */
export interface Change<T = Document> {
  /** Go on behind this change by giving it as `after`. */
  cursor: string
  collection: string
  id: string
  kind: 'created' | 'updated' | 'deleted' | 'expired'
  version: string
  /** Engine time in milliseconds since 1970. */
  time: number
  /** The new value; null when it was deleted or expired. */
  document: Stored<T> | null
}

/** Changes in the order they were committed, at least once each. While one is awaited, the process stays alive. */
export declare class Changes<T = Document> implements AsyncIterableIterator<Change<T>> {
  private constructor()
  next(): Promise<IteratorResult<Change<T>, undefined>>
  return(value?: undefined): Promise<IteratorReturnResult<undefined>>
  /** Ends the iteration, also one that waits. */
  close(): Promise<void>
  [Symbol.asyncIterator](): this
  [Symbol.asyncDispose](): Promise<void>
}

export interface ChangesOptions extends CallOptions {
  /** Behind the change with this cursor. */
  after?: string | null
  /** With what happens from now on, which is the default, or with the oldest change that is kept. */
  start?: 'now' | 'oldest'
}

export interface ConnectOptions extends CallOptions {
  /** Sent as `Authorization: Bearer`, for the proxy before the server. */
  token?: string | null
  /** How long a call may take in milliseconds, reconnecting included. */
  deadline?: number | null
  /** As in `OpenOptions`. */
  numbers?: 'exact' | 'nearest' | null
}

export interface OpenOptions extends CallOptions {
  /**
   * `auto` (the default) shares the directory with the other processes that open it; `owner` insists on having it
   * alone, `client` on asking the process that has it.
   */
  mode?: 'auto' | 'owner' | 'client' | null
  /** When an answer may leave: `written` survives the death of the process, `synced` (the default) a power cut. */
  durability?: 'written' | 'synced' | 'replicated' | null
  /** Where documents are kept for reading: `sled` (the default) holds more than memory does. */
  view?: 'sled' | 'memory' | null
  /** How numbers that a `number` cannot hold are read: whole ones as `bigint` and others not at all, or the nearest number. */
  numbers?: 'exact' | 'nearest' | null
  /** Bytes of operations that may wait. */
  intakeBytes?: number | null
  /** How long a write waits for room before it fails with `OverloadedError`, in milliseconds. */
  deadline?: number | null
  /** Two memtables of this size hold what is not in the view's store yet. */
  memtableBytes?: number | null
  /** Bytes of the record cache. */
  cacheBytes?: number | null
  /** The log is kept for the change feed up to this many bytes, */
  logRetentionBytes?: number | null
  /** or for this long, in milliseconds, whichever is less. */
  logRetention?: number | null
  /** One segment of the log: 4 MiB to 1 GiB. */
  segmentBytes?: number | null
  /** The tail of the log may grow to this before it is merged. */
  mergeBytes?: number | null
  /**
   * The directory may lie on a network file system (NFS, SMB, AFS), although locks and syncs may not hold there: two
   * machines could own it at once. Without it opening one is refused with `UnsupportedError`.
   */
  networkDisk?: boolean | null
}

/** How a database stands. */
export interface Info {
  /** Tells this database from all others, wherever it is moved: 32 hexadecimal digits. A copy of its files has the same. */
  id: string
  version: string
  durability: 'written' | 'synced' | 'replicated'
  view: 'sled' | 'memory'
  /** The newest durable version. */
  newest: string
  /** The oldest version that a feed may still start behind. */
  oldest: string
  partitions: number
  /** `owner` where this process has the data directory open; `client` where it asks the one that has. */
  role: 'owner' | 'client'
  ownerPid: number
  /** What recovery found at open, in words; empty after a clean end. */
  recovery: string[]
}

/** Milliseconds, or a text such as `5s`: a whole number with ms, s, m, h or d behind it. */
export type Duration = number | string

export type TaskState = 'waiting' | 'delayed' | 'active' | 'completed' | 'failed' | 'cancelled'

/** How long a failed task waits: always the same, a time for each run, or a random time up to `base` x 2^(runs - 1). */
export type Backoff = Duration | Duration[] | { base: Duration; cap: Duration }

/** One task as it stands. Times are milliseconds since 1970. */
export interface Task<P = any, R = any> {
  id: number
  queue: string
  kind: string
  description: string | null
  params: P
  priority: number
  state: TaskState
  attempt: number
  maxAttempts: number
  progress: number | null
  result: R | null
  error: string | null
  createdAt: number
  dueAt: number
  startedAt: number | null
  finishedAt: number | null
  unique: string | null
  parent: number | null
  worker: string | null
  cancelRequested: boolean
  timeout: number
  failures: { attempt: number; at: number; error: string }[]
  redrives: number
  schedule: string | null
}

export interface TaskOptions {
  /** Which handler runs it; as the queue unless it is given. */
  kind?: string | null
  /** For people. */
  description?: string | null
  /** -100 to 100, higher first. */
  priority?: number | null
  /** May run so long from now on. */
  delay?: Duration | null
  /** May run from then on; not together with `delay`. */
  dueAt?: Date | number | null
  /** Runs at most, the first included. */
  attempts?: number | null
  backoff?: Backoff | null
  /** How long one run may take. */
  timeout?: Duration | null
  /** While a task of the queue with this key waits, is delayed or runs, that one is given instead. */
  unique?: string | null
  /** The task that this one belongs to, for your own use. */
  parent?: number | null
}

export interface EnqueueOptions extends TaskOptions, CallOptions {
  /** Makes the call safe to repeat for 24 h. */
  idempotencyKey?: string | null
}

export interface NewTask extends TaskOptions {
  queue: string
  params?: unknown
}

/** What holds for a queue; what is left out is as it is for a new one. */
export interface QueueSettings {
  /** Tasks that run at the same time, over all workers. */
  concurrency?: number | null
  /** So many starts in so long. */
  rate?: { count: number; per: Duration } | null
  /** Tasks that may wait; one more is refused with `OverloadedError`. */
  maxLength?: number | null
  keep?: Duration | null
  keepCount?: number | null
  keepFailed?: Duration | null
  attempts?: number | null
  backoff?: Backoff | null
  timeout?: Duration | null
  /** Retries: `percent` of the runs that began within the last minute (10; with 100 nothing is held back), and at least
   * `perSecond` (10). What fails beyond that is held back longer than its backoff says, at most a day. */
  retryBudget?: { percent?: number | null; perSecond?: number | null } | null
}

/** A queue as it stands. */
export interface QueueInfo {
  name: string
  settings: Document
  paused: boolean
  waiting: number
  delayed: number
  active: number
  completed: number
  failed: number
  cancelled: number
  headWaits: number
  overdue: number
}

export interface Schedule {
  /** Five fields, or six with seconds first. */
  cron: string
  timeZone?: string | null
  task: NewTask
  /** What happens to firings that came too late. */
  misfire?: 'skip' | 'once' | 'all' | null
  paused?: boolean | null
}

/** A schedule as it stands. */
export interface ScheduleInfo {
  schedule: Document
  nextAt: number | null
  lastAt: number | null
  lastTask: number | null
  fired: number
  error: string | null
}

export interface TaskListOptions extends CallOptions {
  queue?: string | null
  state?: TaskState | null
  limit?: number | null
  after?: string | null
}

/** The task queue: tasks are kept until a worker has run them, whatever dies meanwhile; one may run more than once. */
export declare class Tasks {
  private constructor()
  /** Adds a task; `existing` says that another one held the unique key, and is the one given. */
  enqueue(queue: string, params?: unknown, options?: EnqueueOptions | null): Promise<Task & { existing: boolean }>
  /** Adds at most 1 000 tasks, all or none. */
  enqueueMany(tasks: readonly NewTask[], options?: CallOptions | null): Promise<{ id: number; existing: boolean }[]>
  /** One task; null when there is none, or it is not kept any more. */
  get(id: number, options?: CallOptions | null): Promise<Task | null>
  /** The task once it has ended; a `signal` bounds the wait. `progress` draws on standard error how far it is, where that is a
   * terminal. */
  wait(id: number, options?: ({ progress?: boolean | null } & CallOptions) | null): Promise<Task>
  /** Every task of a queue and a state, or of all. */
  list(options?: (TaskListOptions & { pageSize?: number | null }) | null): AsyncGenerator<Task, void, undefined>
  /** One page of at most 1 000 tasks. */
  page(options?: TaskListOptions | null): Promise<{ items: Task[]; cursor: string | null }>
  /** Cancels a task: one that waits at once; one that runs is told, and is cancelled when its handler stops. */
  cancel(id: number, options?: CallOptions | null): Promise<Task & { changed: boolean }>
  /** Brings back a task that failed for good or was cancelled; a delayed one may run at once. */
  retry(id: number, options?: CallOptions | null): Promise<Task & { changed: boolean }>
  /** Brings back dead letters of a queue, oldest first; how many. */
  redrive(queue: string, options?: ({ limit?: number | null } & CallOptions) | null): Promise<number>
  /** Forgets a task that does not run; whether there was one. */
  remove(id: number, options?: CallOptions | null): Promise<boolean>
  queues(options?: CallOptions | null): Promise<QueueInfo[]>
  queue(queue: string, options?: CallOptions | null): Promise<QueueInfo>
  /** Sets what holds for a queue, all of it. */
  configure(queue: string, settings: QueueSettings, options?: CallOptions | null): Promise<QueueInfo>
  /** Lets no worker claim from a queue; tasks that run go on. */
  pause(queue: string, options?: CallOptions | null): Promise<QueueInfo>
  /** Lets workers claim again. */
  resume(queue: string, options?: CallOptions | null): Promise<QueueInfo>
  /** Cancels everything in a queue that waits or is delayed. `damaged` when tasks are left that cannot be read. */
  drain(queue: string, options?: CallOptions | null): Promise<void>
  /**
   * Enqueues a task again and again; a schedule of the same name is replaced. Where its times stay the same, what it has
   * missed is still made up for as its misfire rule says. Its parameters have at most 512 KiB.
   */
  putSchedule(name: string, schedule: Schedule, options?: CallOptions | null): Promise<ScheduleInfo>
  /** Ends a schedule; whether there was one. */
  removeSchedule(name: string, options?: CallOptions | null): Promise<boolean>
  schedules(options?: CallOptions | null): Promise<ScheduleInfo[]>
}

/** A task in the hands of its handler. */
export interface RunningTask<P = any> extends Omit<Task<P>, 'progress'> {
  /** Says how far the run is, from 0 to 1; kept at most once a second. */
  progress(progress: number): void
  /** Whether the run should end; whatever the handler throws then ends it. */
  readonly cancelled: boolean
  /** Why it should end. */
  readonly interrupt: 'cancelled' | 'timed_out' | 'lease_lost' | 'stopped' | null
  /** Aborts when it should end. */
  readonly signal: AbortSignal
  /** The task and the number of the run, which rises with each: give it to whatever the run writes to. */
  readonly fence: [number, number]
}
export declare const RunningTask: { prototype: RunningTask }

/** What it returns is the result of the task, what it throws a failure. */
export type Handler<P = any> = (task: RunningTask<P>, context: { signal: AbortSignal }) => unknown

/** Thrown by a handler when no further run would help: the task is a dead letter at once. */
export declare class Discard extends Error {}

export interface WorkerOptions {
  /** Tasks that run at the same time: 1 to 1 000; 1 unless it is said. */
  concurrency?: number | null
  /** When this process dies, its tasks run again after so long at most; 30 s. */
  lease?: Duration | null
  /** How long a stop waits for handlers; 30 s. */
  grace?: Duration | null
  /** What people see as the task's worker. */
  name?: string | null
}

/** Runs a handler on tasks. It keeps the process alive until it is stopped; blocking the event loop costs no lease. */
export declare class Worker {
  private constructor()
  /** Claims nothing more, waits for handlers up to the grace, then aborts their signals and hands their tasks back: so many. */
  stop(options?: { grace?: Duration | null } | null): Promise<number>
  /** Answers once the worker has stopped and its handlers have ended. */
  wait(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * One open database. It is closed by `close`, by `await using`, when its process or worker ends, or when nobody holds it any
 * more. An open database does not keep the process alive; a call that is under way does.
 */
export declare class Kappa {
  private constructor()
  /** Opens the database in the directory `path`, made if it is not there. */
  static open(path: string | URL, options?: OpenOptions | null): Promise<Kappa>
  /** A database in memory: gone when it is closed. */
  static inMemory(options?: OpenOptions | null): Promise<Kappa>
  /**
   * The database behind the server at `url`, such as `http://127.0.0.1:8080`: the same calls, and the same errors. Closing
   * ends the connection, not the database.
   */
  static connect(url: string | URL, options?: ConnectOptions | null): Promise<Kappa>
  readonly products: Products
  readonly users: Collection<User>
  readonly tasks: Tasks
  /** Runs a handler on the tasks of a queue, or of several, until it is stopped. */
  worker<P = any>(queue: string | readonly string[], handler: Handler<P>, options?: WorkerOptions | null): Worker
  /** The collection `name`; with a declaration, it holds when the promise does. */
  collection<T = Document>(name: string, declaration?: (Declaration & CallOptions) | null): Promise<Collection<T>>
  /** Every collection that was declared or written. */
  collections(options?: CallOptions | null): Promise<CollectionInfo[]>
  /** Writes that happen together or not at all. */
  batch(): Batch
  /** Changes of all collections. */
  changes<T = Document>(options?: ChangesOptions | null): Changes<T>
  info(options?: CallOptions | null): Promise<Info>
  /** Answers when reads and writes are being answered. */
  ready(options?: CallOptions | null): Promise<void>
  /** Reads everything that is stored and says in words what is damaged; nothing when all is well. */
  check(options?: CallOptions | null): Promise<string[]>
  /** Waits for writes under way, marks a clean end and gives the directory back. Closing again does nothing. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface HistogramOptions extends CallOptions {
  /** Which values, both ends included; at most 2^24. From 1 to 1 000 unless it is said. */
  range?: readonly [number, number] | null
  /** The same seed gives the same counts again. */
  seed?: number | bigint | null
  /** `draw` makes every draw, `multinomial` samples the counts themselves. */
  method?: 'draw' | 'multinomial' | null
  /** At most this many threads; all processors but one unless it is said. */
  threads?: number | null
}

/** How often each value of a range came up. */
export declare class Histogram {
  private constructor()
  readonly count: number
  readonly range: [number, number]
  /** A `bigint` only where a `number` cannot hold it; one that was not given is below 2^53. */
  readonly seed: number | bigint
  readonly method: 'draw' | 'multinomial'
  readonly elapsedMs: number
  /** The counts in the order of the values. */
  readonly counts: number[]
  /** The count of `value`; undefined where it lies outside the range. */
  get(value: number): number | undefined
  /** A picture of the counts; width and height in pixels. */
  toSvg(width?: number, height?: number): string
  toJSON(): object
}

/** Counts how often each value of a range comes up among `count` uniform random draws; 10^8 unless it is said. */
export declare function histogram(count?: number | null, options?: HistogramOptions | null): Promise<Histogram>

/** The processor, memory and system under this process; null where something cannot be found out. */
export interface CpuInfo {
  architecture: string
  vendor: string | null
  model: string | null
  logicalCpus: number | null
  physicalCores: number | null
  /** How many threads this process may keep busy. */
  parallelism: number
  frequencyMhz: number | null
  caches: { l1d: number | null; l1i: number | null; l2: number | null; l3: number | null }
  features: string[] | null
  memory: { total: number | null; available: number | null; limit: number | null }
  os: { name: string | null; version: string | null; kernel: string | null }
}

/** Describes the machine as it is now. */
export declare function cpuInfo(): CpuInfo

/** What every failed call gives; the classes below stand for one `code` each. */
export declare class KappaError extends Error {
  protected constructor()
  /** The kind of failure, the same text in every language. */
  readonly code: string
  /** The call that failed, where it is known. */
  readonly operation: string | null
  /** The values that matter, by name. */
  readonly context: Record<string, string>
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean
}

/** The input breaks a rule. Fix the input. */
export declare class InvalidInputError extends KappaError {
  readonly code: 'invalid_input'
}
/** What the call names does not exist. Fix the input. */
export declare class NotFoundError extends KappaError {
  readonly code: 'not_found'
}
/** Something with this id or unique value exists already. Fix the input. */
export declare class AlreadyExistsError extends KappaError {
  readonly code: 'already_exists'
}
/** The same idempotency key came with other content. Use a new key. */
export declare class ConflictError extends KappaError {
  readonly code: 'conflict'
}
/** The document was written since the version the caller named. Read it again, then retry. */
export declare class VersionMismatchError extends KappaError {
  readonly code: 'version_mismatch'
}
/** A document, operation or request is over its limit. Send less. */
export declare class TooLargeError extends KappaError {
  readonly code: 'too_large'
}
/** A bounded queue stayed full; nothing was written. Retry later. */
export declare class OverloadedError extends KappaError {
  readonly code: 'overloaded'
}
/** The disk is nearly full; nothing was written. Free space, then retry. */
export declare class StorageFullError extends KappaError {
  readonly code: 'storage_full'
}
/** The data is not being served at the moment; nothing was written. Retry later. */
export declare class UnavailableError extends KappaError {
  readonly code: 'unavailable'
}
/** A write may or may not have happened. Read before repeating, or repeat with an idempotency key. */
export declare class AmbiguousError extends KappaError {
  readonly code: 'ambiguous'
}
/** The index is being built on existing data. Retry later. */
export declare class IndexBuildingError extends KappaError {
  readonly code: 'index_building'
}
/** The cursor points before what is still kept. Start again from a fresh list. */
export declare class ExpiredError extends KappaError {
  readonly code: 'expired'
}
/** Another process owns the data directory. */
export declare class LockedError extends KappaError {
  readonly code: 'locked'
}
/** Stored data is damaged; the message names file and offset. */
export declare class DamagedError extends KappaError {
  readonly code: 'damaged'
}
/** The engine, or this language, cannot do what was asked. */
export declare class UnsupportedError extends KappaError {
  readonly code: 'unsupported'
}
/** The call was cancelled by its caller; `cause` is the signal's reason. */
export declare class CancelledError extends KappaError {
  readonly code: 'cancelled'
}
/** The database is closed. Open it again. */
export declare class ClosedError extends KappaError {
  readonly code: 'closed'
}
/** A defect of Kappa. Report it. */
export declare class InternalError extends KappaError {
  readonly code: 'internal'
}
