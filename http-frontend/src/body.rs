//! Reading a request's body: bounded in bytes and in time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::app::App;
use crate::error::Problem;
use crate::options::ServerOptions;

/// Bytes of an overlong body that are still read, so that a client that sends first and listens later gets the answer
/// instead of a reset connection.
const DISCARDED_BYTES: usize = 16 << 20;
/// How long that may take.
const DISCARDED_TIME: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than allowed.
    TooLarge,
    /// It stood still for too long.
    Stalled,
    /// The connection or the framing broke.
    Broken,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "the body is longer than one document of 1 MiB needs",
            ),
            BodyError::Stalled => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time")
            }
            BodyError::Broken => Self::invalid("the body could not be read to its end"),
        }
    }
}

/// Reads the whole body, within half the time of its request: so a body that never ends is known as such, and not as a
/// write whose end is unknown.
///
/// # Errors
/// As [`BodyError`] says.
pub async fn read(headers: &HeaderMap, body: Body, options: &ServerOptions) -> Result<Bytes, BodyError> {
    timeout(options.request_timeout / 2, read_frames(headers, body, options)).await.unwrap_or(Err(BodyError::Stalled))
}

async fn read_frames(headers: &HeaderMap, mut body: Body, options: &ServerOptions) -> Result<Bytes, BodyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > options.body_bytes as u64) {
        discard(&mut body).await;
        return Err(BodyError::TooLarge);
    }
    let mut whole = Vec::new();
    loop {
        let frame = match timeout(options.body_timeout, body.frame()).await {
            Err(_) => return Err(BodyError::Stalled),
            Ok(None) => return Ok(whole.into()),
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        let Some(data) = frame.data_ref() else { continue };
        if whole.len() + data.len() > options.body_bytes {
            discard(&mut body).await;
            return Err(BodyError::TooLarge);
        }
        whole.extend_from_slice(data);
    }
}

/// Reads on without keeping anything, within bounds.
async fn discard(body: &mut Body) {
    let reading = async {
        let mut left = DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // How it ended does not matter: the request is refused either way.
    let _ = timeout(DISCARDED_TIME, reading).await;
}

/// The media type without parameters, in lower case; empty when there is none.
pub fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A body that says it is JSON. That it must say so also keeps plain browser forms away from `/v1`.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

/// A merge patch: `application/merge-patch+json`, or plain JSON.
#[derive(Debug)]
pub struct PatchBody(pub Bytes);

impl FromRequest<App> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        typed(request, app, &["application/json"]).await.map(Self)
    }
}

impl FromRequest<App> for PatchBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        typed(request, app, &["application/merge-patch+json", "application/json"]).await.map(Self)
    }
}

async fn typed(request: Request, app: &App, allowed: &[&str]) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let found = media_type(&parts.headers);
    if !allowed.contains(&found.as_str()) {
        let detail = format!("the body must be {}", allowed.join(" or "));
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    Ok(read(&parts.headers, body, &app.options).await?)
}
