//! What can go wrong, and what the caller should do about it.

use std::fmt;

/// The answer of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a few kinds that each ask for one reaction.
///
/// The text of [`ErrorKind::code`] is stable: HTTP answers, Node and Python carry it unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input breaks a documented rule. Fix the input.
    InvalidInput,
    /// What the call names does not exist. Fix the input.
    NotFound,
    /// Something with this id or unique value exists already. Fix the input.
    AlreadyExists,
    /// The same idempotency key came with other content. Use a new key.
    Conflict,
    /// The document was written since the version the caller named. Read it again, then retry.
    VersionMismatch,
    /// A document, operation or request is over its documented limit. Send less.
    TooLarge,
    /// A bounded queue stayed full up to the deadline; nothing was written. Retry later.
    Overloaded,
    /// The disk is nearly full; nothing was written. Free space, then retry. Reads and deletes go on.
    StorageFull,
    /// The data is not being served at the moment; nothing was written. Retry later.
    Unavailable,
    /// A write may or may not have happened. Read before repeating, or repeat with an idempotency key.
    Ambiguous,
    /// The index is being built on existing data. Retry later.
    IndexBuilding,
    /// The cursor points before what is still kept. Start again from a fresh list.
    Expired,
    /// Another process owns the data directory. Close it there, or talk to it.
    Locked,
    /// Stored data is damaged; the message names file and offset. Restore it, then reopen.
    Damaged,
    /// The engine or this build cannot do what was asked. Change the options.
    Unsupported,
    /// The call was cancelled by its caller.
    Cancelled,
    /// The handle is closed. Open it again.
    Closed,
    /// A defect of Kappa. Report it.
    Internal,
}

impl ErrorKind {
    /// Every kind once; each edge (HTTP, Node, Python) is tested against this list.
    pub const ALL: &'static [Self] = &[
        Self::InvalidInput,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::VersionMismatch,
        Self::TooLarge,
        Self::Overloaded,
        Self::StorageFull,
        Self::Unavailable,
        Self::Ambiguous,
        Self::IndexBuilding,
        Self::Expired,
        Self::Locked,
        Self::Damaged,
        Self::Unsupported,
        Self::Cancelled,
        Self::Closed,
        Self::Internal,
    ];

    /// The stable text of this kind, in snake case.
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::VersionMismatch => "version_mismatch",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::StorageFull => "storage_full",
            Self::Unavailable => "unavailable",
            Self::Ambiguous => "ambiguous",
            Self::IndexBuilding => "index_building",
            Self::Expired => "expired",
            Self::Locked => "locked",
            Self::Damaged => "damaged",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::StorageFull | Self::Unavailable | Self::IndexBuilding)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

type Source = std::sync::Arc<dyn std::error::Error + Send + Sync>;

/// One failure: its kind, what was being done, and the values that matter.
///
/// Cloning is cheap in meaning: every caller of a failed group gets the same error.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    operation: Option<&'static str>,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
}

impl Error {
    /// A failure of `kind`; `message` is lower case and says what to do where that is not obvious.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), operation: None, context: Vec::new(), source: None }
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Names the call that failed; the innermost name stays.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.operation.get_or_insert(operation);
        self
    }

    /// Adds one `name=value` to the text.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// Keeps the underlying failure.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(std::sync::Arc::new(source));
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence without operation and values, as shown to people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The call that failed, where it is known.
    pub fn operation(&self) -> Option<&'static str> {
        self.operation
    }

    /// The values that matter, by name.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.message)?;
        for (name, value) in &self.context {
            write!(f, " {name}={value}")?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code that two kinds share would make them one kind at every edge.
    #[test]
    fn codes_are_distinct_and_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in ErrorKind::ALL {
            let code = kind.code();
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "code={code}");
            assert!(seen.insert(code), "code={code} stands for two kinds");
        }
    }

    #[test]
    fn the_text_names_operation_values_and_cause() {
        let error = Error::new(ErrorKind::NotFound, "no such product")
            .with("id", "42")
            .during("products.get")
            .caused_by(std::io::Error::other("gone"));
        assert_eq!(error.to_string(), "products.get: no such product id=42: gone");
    }
}
