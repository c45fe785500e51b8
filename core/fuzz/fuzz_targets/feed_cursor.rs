//! Bytes for `kappa_core::fuzzing::feed_cursor`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kappa_core::fuzzing::feed_cursor(bytes));
