//! What every request passes first: who may ask, how long it may take, and which headers every answer carries.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{self, HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::app::App;
use crate::error::Problem;

/// The longest path with its query.
const MAX_URI: usize = 8 << 10;

/// Routes whose answers may take longer than others: they have deadlines of their own, or none by nature.
const LONG: [&str; 6] =
    ["/v1/changes", "/v1/changes/page", "/v1/check", "/v1/randoms", "/api/randoms", "/api/randoms/"];

/// Headers of every answer that does not set them itself.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
];

/// Answers one request by `router`: refuses what no honest client sends, ends what takes too long, turns a panic into
/// an answer, and sets headers.
///
/// A function around the router and not a layer of it: layers are boxed and cloned anew for every request.
pub async fn answer<B>(app: &App, router: Router, request: Request<B>) -> Response
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let mut response = match check(app, &request) {
        Err(problem) => problem.into_response(),
        Ok(()) => route(app, router, request).await,
    };
    let revalidate = response.headers().contains_key(header::ETAG);
    let headers = response.headers_mut();
    headers.reserve(HEADERS.len());
    if revalidate {
        // A stored copy may be kept, but is used only when `If-None-Match` says it is still right.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    }
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn route<B>(app: &App, router: Router, request: Request<B>) -> Response
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let (long, reads) = (LONG.contains(&request.uri().path()), request.method().is_safe());
    let answer = TowerToHyperService::new(router).call(request);
    // The request is given up after a panic, so no broken state of its own can be seen again.
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let answer = if long { Ok(answer.await) } else { tokio::time::timeout(app.options.request_timeout, answer).await };
    match answer {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            let mut response = Problem::internal().into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
        Err(_) if reads => {
            let detail = "the answer took too long";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(1).into_response()
        }
        Err(_) => {
            let detail = "the answer took too long; the write may or may not have happened, read before repeating";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "ambiguous", detail).into_response()
        }
    }
}

fn check<B>(app: &App, request: &Request<B>) -> Result<(), Problem> {
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length > MAX_URI {
        return Err(Problem::new(
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            format!("the longest address is {MAX_URI}"),
        ));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (request.uri().authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(Problem::invalid("a request names one host")),
        (Some(authority), ..) => Some(authority.clone()),
        (None, Some(value), None) => value.to_str().ok().and_then(|text| text.parse().ok()),
        (None, None, None) => None,
    };
    let names = &app.options.allowed_hosts;
    if app.is_local() && !host.as_ref().is_some_and(|host| is_own(host, app.address.port(), names)) {
        return Err(forbidden("this server answers to loopback names with its own port; --allow-host adds a name"));
    }
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    if !app.is_local() && request.method().is_safe() {
        return Ok(());
    }
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(Uri::authority);
    let own = origin.is_some() && origin == host.as_ref();
    // Pages of any port of this machine may ask: a shop's page in development comes from a port of its own, and who can
    // serve pages here can call this server without a browser too. Pages of other sites may not.
    if own || (app.is_local() && origin.is_some_and(|origin| is_allowed(origin, names))) {
        return Ok(());
    }
    Err(forbidden("a page of another site may not ask"))
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "host_not_allowed", detail)
}

/// Whether a `Host` means this server: a loopback name with its port or none, or an allowed name with any port, because
/// the proxy that sends it listens on a port of its own.
fn is_own(authority: &Authority, port: u16, names: &[String]) -> bool {
    let other_port = authority.port_u16() != Some(port) && authority.as_str() != authority.host();
    name(authority).is_some_and(|name| is_named(name, names) || (is_loopback(name) && !other_port))
}

/// Whether a name means this host, whatever the port. Without the question, a page whose own name is made to point to
/// 127.0.0.1 could read and write everything.
fn is_allowed(authority: &Authority, names: &[String]) -> bool {
    name(authority).is_some_and(|name| is_named(name, names) || is_loopback(name))
}

/// The host alone; none where a user stands before it, which no honest client sends.
fn name(authority: &Authority) -> Option<&str> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    (!authority.as_str().contains('@')).then(|| host.strip_suffix('.').unwrap_or(host))
}

fn is_named(name: &str, names: &[String]) -> bool {
    names.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::routing::any;
    use kappa_core::env::Env;
    use kappa_core::{Kappa, Options};

    use super::*;
    use crate::options::ServerOptions;

    async fn broken() -> StatusCode {
        panic!("a planted defect")
    }

    /// One request to a handler that never ends, or one that panics.
    async fn ask(method: &str, path: &str) -> Response {
        let kappa = Kappa::in_memory(&Options::default(), &Env::default()).expect("opens");
        let options = ServerOptions { request_timeout: Duration::from_millis(20), ..ServerOptions::default() };
        let (_sender, stop) = tokio::sync::watch::channel(false);
        let app = App::new(kappa, options, kappa_core::kinds::Kinds::new(), ([127, 0, 0, 1], 80).into(), stop);
        let router = Router::new().route("/endless", any(std::future::pending::<()>)).route("/broken", any(broken));
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost").body(Body::empty());
        answer(&app, router, request.expect("a request")).await
    }

    /// A read that is late can be repeated; a write that is late may have happened, and must not look repeatable.
    #[tokio::test]
    async fn late_requests_are_answered() {
        let read = ask("GET", "/endless").await;
        assert_eq!(read.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(read.headers().contains_key(header::RETRY_AFTER));
        let write = ask("POST", "/endless").await;
        assert_eq!(write.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!write.headers().contains_key(header::RETRY_AFTER));
    }

    /// A defect in one handler may cost its own request, not the process or the client's patience.
    #[tokio::test]
    async fn a_panic_is_an_answer_without_its_text() {
        let response = ask("GET", "/broken").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONNECTION], "close");
        assert!(response.headers().contains_key(header::X_CONTENT_TYPE_OPTIONS));
        let body = axum::body::to_bytes(response.into_body(), 4_096).await.expect("a short body");
        assert!(!String::from_utf8_lossy(&body).contains("planted"));
    }

    /// One name too many here, and any web page can use its visitor's database (DNS rebinding).
    #[test]
    fn only_loopback_names_and_named_ones_are_allowed() {
        let names = ["shop.test".to_owned()];
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.:1",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]",
            "[::1]:8080",
            "Shop.Test:80",
        ] {
            assert!(is_allowed(&good.parse().expect("an authority"), &names), "{good}");
        }
        for bad in [
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "10.0.0.1",
            "0.0.0.0",
            "localhost@evil.test",
            "evil@localhost",
            "notlocalhost",
            "[::2]",
            "xshop.test",
        ] {
            assert!(!is_allowed(&bad.parse().expect("an authority"), &names), "{bad}");
        }
    }

    /// Another server of this machine, or one that forwards to it, is another site: what its pages ask is not for us.
    #[test]
    fn a_loopback_name_goes_with_the_servers_own_port() {
        let names = ["shop.test".to_owned()];
        for good in
            ["localhost:8080", "localhost", "127.0.0.1:8080", "[::1]", "[::1]:8080", "shop.test", "shop.test:443"]
        {
            assert!(is_own(&good.parse().expect("an authority"), 8_080, &names), "{good}");
        }
        for bad in ["localhost:8081", "127.0.0.1:80", "[::1]:18080", "evil.test:8080", "a@localhost:8080"] {
            assert!(!is_own(&bad.parse().expect("an authority"), 8_080, &names), "{bad}");
        }
    }
}
