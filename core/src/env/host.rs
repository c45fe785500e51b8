//! What the operating system says about this machine, and is told about our threads.

/// Nice value of threads that nobody waits for: about a tenth of what others get when all cores are busy.
#[cfg(target_os = "linux")]
const BEHIND: i32 = 10;

/// The text at `path`, where there is one that can be read.
pub fn host_text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Lets other threads go first from now on; threads that this one starts inherit it. Where the system knows
/// priorities of whole processes only, nothing happens.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(BEHIND) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}
