//! A store that fails.
