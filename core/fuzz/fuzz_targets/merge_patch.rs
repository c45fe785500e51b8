//! Bytes for `kappa_core::fuzzing::merge_patch`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kappa_core::fuzzing::merge_patch(bytes));
