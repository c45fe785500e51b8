//! What the caller of a bench asked for.

/// Whether the bench `name` is among those asked for: no word given means all of them.
///
/// Every bench program of this crate gets the same words, so each must ask.
pub fn is_wanted(name: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

/// Whether long runs at full size are wanted: `KAPPA_SOAK=1`.
pub fn is_soak() -> bool {
    std::env::var_os("KAPPA_SOAK").is_some_and(|value| value == "1")
}
