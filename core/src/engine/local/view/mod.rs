//! The view: versioned memtables over an ordered store that can be rebuilt.
