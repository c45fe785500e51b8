//! Where a rule does not hold today, since when and why.

/// One file that one rule leaves alone.
pub struct Exception {
    /// The name of the rule.
    pub rule: &'static str,
    /// The file.
    pub path: &'static str,
    /// The day it was allowed, as year-month-day, so that an old one stands out.
    pub since: &'static str,
    /// Why, and what would end it.
    pub reason: &'static str,
}

/// Keep this list short: an exception that excuses nothing any more is a finding itself.
pub const EXCEPTIONS: &[Exception] = &[];
