//! Texts in which the operating system describes this machine.

/// The text at `path`, where there is one that can be read.
pub fn host_text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
