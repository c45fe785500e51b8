//! Closing what a forked child has inherited, without allocating.
#![expect(unsafe_code, reason = "a whole range of descriptors is closed by number")]

use std::os::fd::RawFd;

/// Where the system cannot close a range, this many are closed one by one.
const ONE_BY_ONE: RawFd = 65_536;
const FIRST_UNNAMED: RawFd = 3;

/// Closes all descriptors but `keep`.
pub fn close_all_but(keep: RawFd) {
    // SAFETY: this process is a copy that goes its own way: whatever owned these descriptors never runs in it.
    unsafe {
        if keep > 0 {
            close(0, keep - 1, 0);
        }
        close(keep + 1, RawFd::MAX, 0);
    }
}

/// Lets no descriptor but the first three reach the program.
pub fn close_on_exec() {
    #[cfg(target_os = "linux")]
    // SAFETY: only a flag is set.
    unsafe {
        close(FIRST_UNNAMED, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above.
    unsafe {
        mark(FIRST_UNNAMED, ONE_BY_ONE);
    }
}

#[cfg(target_os = "linux")]
unsafe fn close(first: RawFd, last: RawFd, flags: libc::c_uint) {
    // SAFETY: a system call on three numbers.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } == 0 {
        return;
    }
    // SAFETY: as the caller says.
    unsafe { if flags == libc::CLOSE_RANGE_CLOEXEC { mark(first, last) } else { close_each(first, last) } }
}

#[cfg(not(target_os = "linux"))]
unsafe fn close(first: RawFd, last: RawFd, _flags: u32) {
    // SAFETY: as the caller says.
    unsafe { close_each(first, last) }
}

unsafe fn close_each(first: RawFd, last: RawFd) {
    for number in first..=last.min(ONE_BY_ONE) {
        // SAFETY: as the caller says; one that is not open is refused.
        unsafe { libc::close(number) };
    }
}

unsafe fn mark(first: RawFd, last: RawFd) {
    for number in first..=last.min(ONE_BY_ONE) {
        // SAFETY: one that is not open is refused.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
