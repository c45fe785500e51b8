// What `import ... from 'kappa-core'` gives.
import kappa from './index.cjs'

export const {
  Kappa, Collection, Products, List, Batch, Changes, Tasks, Worker, RunningTask, Discard, Histogram, histogram, cpuInfo, KappaError, InvalidInputError,
  NotFoundError, AlreadyExistsError, ConflictError, VersionMismatchError, TooLargeError, OverloadedError,
  StorageFullError, UnavailableError, AmbiguousError, IndexBuildingError, ExpiredError, LockedError, DamagedError,
  UnsupportedError, CancelledError, ClosedError, InternalError,
} = kappa
export default kappa
