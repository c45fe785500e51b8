//! How long the allocator of the packages keeps what was freed.
#![cfg_attr(
    feature = "mimalloc",
    expect(unsafe_code, reason = "the options of the allocator are those of a C library")
)]

/// Has freed memory kept for a while before it goes back to the system. A memtable is freed as a whole, and the next one
/// takes as much: given back at once, all of it would have to be got and cleared again.
///
/// `MIMALLOC_PURGE_DELAY` decides where it is set. Where the feature `mimalloc` is off, this does nothing.
pub fn keep_freed() {
    #[cfg(feature = "mimalloc")]
    // SAFETY: both are numbers, and the library knows the option.
    unsafe {
        mimalloc::mi_option_set_default(mimalloc::PURGE_DELAY, mimalloc::KEPT_MS);
    };
}

#[cfg(feature = "mimalloc")]
mod mimalloc {
    use std::ffi::{c_int, c_long};

    use libmimalloc_sys as _;

    /// `mi_option_purge_delay` of version 2.
    pub const PURGE_DELAY: c_int = 15;
    pub const KEPT_MS: c_long = 2_000;

    unsafe extern "C" {
        pub fn mi_option_set_default(option: c_int, value: c_long);
        #[cfg(test)]
        pub fn mi_option_get(option: c_int) -> c_long;
    }

    // Another version of the library numbers its options in another way.
    #[test]
    fn it_is_this_option_that_is_set() {
        const DEFAULT_MS: c_long = 10;
        // SAFETY: as above.
        let value = || unsafe { mi_option_get(PURGE_DELAY) };
        let told = std::env::var("MIMALLOC_PURGE_DELAY").ok().and_then(|told| told.parse().ok());
        assert!([told.unwrap_or(DEFAULT_MS), KEPT_MS].contains(&value()), "{}", value());
        super::keep_freed();
        assert_eq!(value(), told.unwrap_or(KEPT_MS));
    }
}
