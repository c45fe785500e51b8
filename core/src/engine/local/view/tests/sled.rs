//! sled directories.
