//! Who runs an operation.
