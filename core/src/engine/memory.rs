//! An engine in memory, for tests and for data that need not last.
