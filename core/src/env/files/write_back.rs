//! Writing to the disk that begins before somebody waits for it.
#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "only the C library has the call"))]

use std::fs::File;

/// Begins to write the bytes from `position` on to the disk, where the system has a call for it. It is only a hint: what
/// goes wrong is told by the sync that follows.
pub fn begin(file: &File, position: u64, length: u64) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let (Ok(position), Ok(length)) = (position.try_into(), length.try_into()) else { return };
        // SAFETY: the descriptor is open as long as `file` is borrowed; the rest are numbers that the system checks.
        let _only_a_hint =
            unsafe { libc::sync_file_range(file.as_raw_fd(), position, length, libc::SYNC_FILE_RANGE_WRITE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, position, length);
}
