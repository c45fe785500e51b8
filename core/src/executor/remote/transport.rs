//! One request over HTTP/1.1: bounded in connections, time to connect and bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

use super::address::Address;

/// Connections that calls use at once.
pub const MAX_CONNECTIONS: usize = 16;
/// The documents of the largest answer, and what goes with them.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Tries that take longer than this to connect are given up and made again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than a server keeps a silent connection, so that few requests meet one that is just being closed.
const IDLE: Duration = Duration::from_secs(8);
/// How often the system asks whether a silent server is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A request that may be sent more than once.
#[derive(Clone, Debug)]
pub struct Ask {
    /// How.
    pub method: Method,
    /// Where, behind the server's URL.
    pub path: String,
    /// JSON, or nothing.
    pub body: Bytes,
}

impl Ask {
    /// A request without a body.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new() }
    }

    /// A request with a body of JSON, or none.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, path: path.into(), body: body.into() }
    }
}

/// What became of one try.
#[derive(Debug)]
pub enum Tried {
    /// The server answered: JSON, or what it refused with.
    Answered(Result<Bytes>),
    /// Nobody that is a serving Kappa did; the same request may be sent again.
    Broken(Error),
}

/// Sends requests to one server, on the runtime that it was made in.
#[derive(Debug)]
pub struct Transport {
    address: Address,
    client: Client<HttpConnector, Tracked>,
}

impl Transport {
    /// Connects when the first request is sent.
    pub fn new(address: Address) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEP_ALIVE));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_CONNECTIONS)
            .build(connector);
        Self { address, client }
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        self.address.base()
    }

    /// Sends `ask` once. `sent` turns true before the first byte of its body leaves.
    pub async fn send(&self, ask: &Ask, sent: &Arc<AtomicBool>) -> Tried {
        let request = match self.request(ask, sent) {
            Ok(request) => request,
            Err(error) => return Tried::Answered(Err(error)),
        };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return self.broken("the server cannot be reached", words(&error)),
        };
        let (head, body) = response.into_parts();
        match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => self.read(head.status, &head.headers, body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                let error = Error::new(ErrorKind::TooLarge, "the answer is over its limit; ask for less");
                Tried::Answered(Err(error.with("limit", MAX_ANSWER_BYTES)))
            }
            Err(error) => self.broken("the server's answer ended early", words(&*error)),
        }
    }

    fn request(&self, ask: &Ask, sent: &Arc<AtomicBool>) -> Result<Request<Tracked>> {
        let body = Tracked { bytes: Some(ask.body.clone()), sent: Arc::clone(sent) };
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(format!("{}{}", self.address.base(), ask.path))
            .header(ACCEPT, "application/json, application/problem+json");
        if !ask.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = self.address.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(body).map_err(|error| Error::invalid("the call makes no address").caused_by(error))
    }

    fn read(&self, status: StatusCode, headers: &HeaderMap, body: Bytes) -> Tried {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if status.is_success() && (kind == "application/json" || kind == "text/plain") {
            return Tried::Answered(Ok(body));
        }
        let problem = (kind == "application/problem+json").then(|| serde_json::from_slice::<Problem>(&body).ok());
        match problem.flatten() {
            // It is stopping; whoever takes its place answers the same call.
            Some(problem) if problem.code == ErrorKind::Closed.code() => {
                self.broken("the server is stopping", problem.detail)
            }
            Some(problem) => Tried::Answered(Err(self.refusal(status, problem))),
            None => {
                self.broken("what answers is no Kappa server, or one behind a proxy that does not reach it", status)
            }
        }
    }

    fn refusal(&self, status: StatusCode, problem: Problem) -> Error {
        let Problem { code, detail } = problem;
        if let Some(&kind) = ErrorKind::ALL.iter().find(|kind| kind.code() == code) {
            return Error::new(kind, detail);
        }
        let kind = match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                let error = Error::new(ErrorKind::Unsupported, "the server does not know this call; update it");
                return error.with("url", self.url()).with("detail", detail);
            }
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => ErrorKind::Unsupported,
            status if status.is_client_error() => ErrorKind::InvalidInput,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, detail).with("url", self.url()).with("code", code)
    }

    fn broken(&self, message: &str, why: impl std::fmt::Display) -> Tried {
        Tried::Broken(Error::new(ErrorKind::Unavailable, message).with("url", self.url()).with("why", why))
    }
}

/// What a server refuses with (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: String,
}

/// The innermost cause: the layers above it say only that there was one.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// A body that says when it begins to leave: a request that never did cannot have written anything.
#[derive(Debug)]
struct Tracked {
    bytes: Option<Bytes>,
    sent: Arc<AtomicBool>,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
