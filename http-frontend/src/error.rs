//! What a failure looks like over HTTP: one table from kinds to status codes, and RFC 9457 problems.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kappa_core::{Error, ErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

/// The status that stands for `kind`.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::VersionMismatch => StatusCode::PRECONDITION_FAILED,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Expired => StatusCode::GONE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Overloaded
        | ErrorKind::Unavailable
        | ErrorKind::IndexBuilding
        | ErrorKind::Locked
        | ErrorKind::Cancelled
        | ErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        // Ambiguous, Damaged, Internal, and kinds this build does not know: none of them may be retried blindly.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which a retry makes sense, where it makes sense at all.
fn retry_after(kind: ErrorKind) -> Option<u32> {
    match kind {
        ErrorKind::StorageFull => Some(30),
        kind if kind.is_retryable() => Some(1),
        _ => None,
    }
}

/// Whether the failure lies in what was sent. Its values are then the caller's own; those of other failures name files
/// and addresses of this machine, which are nobody's business outside.
fn is_the_callers(kind: ErrorKind) -> bool {
    status(kind).is_client_error() || kind == ErrorKind::IndexBuilding
}

/// Whether also the sentence says more about this machine than the caller needs.
fn is_private(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Damaged | ErrorKind::Locked | ErrorKind::Internal)
}

/// A failure as RFC 9457 has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells problems apart.
    #[serde(rename = "type")]
    #[schema(rename = "type", example = "about:blank")]
    pub kind: &'static str,
    /// The status as words.
    #[schema(example = "Not Found")]
    pub title: &'static str,
    /// The status code, repeated.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16, example = 404)]
    pub status: StatusCode,
    /// What went wrong this time, for people.
    pub detail: String,
    /// What went wrong, for programs; never changes.
    #[schema(example = "not_found")]
    pub code: &'static str,
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of the HTTP layer itself.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status, detail: detail.into(), code, retry_after: None }
    }

    /// The request breaks a documented rule.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::InvalidInput.code(), detail)
    }

    /// What the request names does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound.code(), detail)
    }

    /// The document is not as the request's condition demands.
    pub fn precondition(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, ErrorKind::VersionMismatch.code(), detail)
    }

    /// A defect of the server.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Internal.code(), "the server failed; its log says more")
    }

    /// The same with more behind the detail.
    #[must_use]
    pub fn with(mut self, more: &str) -> Self {
        self.detail.push_str(more);
        self
    }

    /// After how many seconds a retry makes sense, where it does.
    pub fn seconds(&self) -> Option<u32> {
        self.retry_after
    }

    /// Says after how many seconds a retry makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let status = status(kind);
        let detail = if is_the_callers(kind) {
            error.to_string()
        } else {
            log(&error);
            let text = if is_private(kind) { "the server failed; its log says more" } else { error.message() };
            text.to_owned()
        };
        let problem = Self::new(status, kind.code(), detail);
        Self { retry_after: retry_after(kind), ..problem }
    }
}

/// Keeps for the operator what the caller is not told. Full queues and closing databases are no defects; many clients
/// that meet them may not fill the log with errors.
fn log(error: &Error) {
    let code = error.kind().code();
    match error.kind() {
        ErrorKind::Overloaded | ErrorKind::Cancelled | ErrorKind::Closed => {
            tracing::debug!(%error, code, "a call was not served");
        }
        _ => tracing::error!(%error, code, "a call failed"),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("a problem is plain data");
        let mut response = (self.status, [(CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind that falls through to 500 tells the caller "our defect" where it should say what to fix or when to retry.
    #[test]
    fn every_kind_has_a_status_that_asks_for_the_right_reaction() {
        for &kind in ErrorKind::ALL {
            let cause = std::io::Error::other("cannot open /srv/secret");
            let error = Error::new(kind, "a sentence").with("file", "/srv/secret").caused_by(cause);
            let problem = Problem::from(error);
            let defect = matches!(kind, ErrorKind::Ambiguous | ErrorKind::Damaged | ErrorKind::Internal);
            assert_eq!(problem.status == StatusCode::INTERNAL_SERVER_ERROR, defect, "kind={kind}");
            assert!(problem.status.is_client_error() || problem.status.is_server_error(), "kind={kind}");
            assert_eq!(problem.retry_after.is_some(), kind.is_retryable(), "kind={kind}");
            assert_eq!(problem.code, kind.code());
            let callers = problem.status.is_client_error() || kind == ErrorKind::IndexBuilding;
            assert_eq!(problem.detail.contains("secret"), callers, "kind={kind}");
            assert_eq!(problem.detail.contains("a sentence"), callers || !is_private(kind), "kind={kind}");
        }
    }

    #[test]
    fn a_problem_is_the_json_of_rfc_9457() {
        let problem = Problem::not_found("no such document");
        let text = serde_json::to_string(&problem).expect("plain data");
        assert_eq!(
            text,
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no such document","code":"not_found"}"#
        );
    }
}
