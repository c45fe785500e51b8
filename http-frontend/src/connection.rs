//! One connection: HTTP/1 or HTTP/2 within limits, closed when it is idle, ended gracefully when the server stops.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::App;
use crate::guard;
use crate::mark::{Activity, Mark};
use crate::stall::Stall;

/// Header lines of one request.
const MAX_HEADERS: usize = 100;
/// Bytes of the head of one request.
const MAX_HEAD: usize = 16 << 10;
/// Bytes that are read ahead for one connection.
const READ_AHEAD: usize = 32 << 10;
/// Requests that one HTTP/2 connection may have in flight.
const MAX_STREAMS: u32 = 100;
/// Streams that a client opened and reset before they were taken; more end the connection (rapid reset).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that this side may have reset for errors before the connection ends.
const MAX_ERROR_RESETS: usize = 1_024;
/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// Serves one connection to its end.
pub async fn serve(stream: TcpStream, router: Router, app: App) {
    // Answers are written whole; waiting for more bytes would only delay them. A stream that refuses is closing.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(Stall::new(stream, app.options.write_timeout, Arc::clone(&activity)));
    let of_service = Arc::clone(&activity);
    let of_answers = app.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mark = Mark::new(&of_service);
        let (app, router) = (of_answers.clone(), router.clone());
        async move {
            let response = guard::answer(&app, router, request).await;
            Ok::<_, Infallible>(response.map(|body| Marked { body, _mark: mark }))
        }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut stop = app.stop.clone();
    let mut stop = pin!(stopped(&mut stop));
    let mut stopping = false;
    let patience = app.options.header_timeout;
    let mut look = pin!(tokio::time::sleep(patience));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended early");
                }
                return;
            }
            // In the place of hyper's timer for heads, which runs from the moment an answer is in the write buffer: it
            // would cut off a client that is slow to take a long answer. This one also covers a connection that never
            // says which HTTP it speaks, and HTTP/2.
            () = look.as_mut() => match activity.idle_since() {
                Some(since) if since.elapsed() >= patience => return,
                since => look.as_mut().reset(since.unwrap_or_else(Instant::now) + patience),
            },
            () = stop.as_mut(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as its sign: there is no server any more.
    let _ = stop.wait_for(|stopping| *stopping).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().header_read_timeout(None).max_headers(MAX_HEADERS).max_buf_size(READ_AHEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(MAX_HEAD as u32);
    builder
}

/// A body that keeps its request counted until its last frame is taken over for sending, or it is given up.
#[derive(Debug)]
struct Marked {
    body: Body,
    _mark: Mark,
}

impl http_body::Body for Marked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
