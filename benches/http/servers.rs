//! The three servers: Kappa's own, a bare axum route, bare hyper.

use std::convert::Infallible;
use std::io::Read;
use std::path::PathBuf;

use axum::Router;
use axum::extract::Path;
use axum::response::IntoResponse;
use axum::routing::get;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kappa_benches::{id, product_with_id, say};
use kappa_core::{Document, Kappa};
use kappa_server::ServerOptions;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::PLACE;
use crate::load::Answer;

/// The file that holds what the bare servers answer.
pub const ANSWER: &str = "answer";
/// Products to ask for.
pub const PRODUCTS: u64 = 100;

/// Where a product is.
pub fn path(number: u64) -> String {
    format!("/v1/products/{}", id(number))
}

/// Serves as `role` until the standard input ends.
pub fn run(role: &str) {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("the parent gives it"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("there are threads");
    let (stop, stopped) = oneshot::channel();
    std::thread::spawn(move || {
        // Any end of the input is the end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.send(()).ok();
    });
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        say(listener.local_addr().expect("a listener has an address"));
        match role {
            "kappa" => kappa(listener, place, stopped).await,
            "axum" => bare_axum(listener, Fixed::read(&place), stopped).await,
            "hyper" => bare_hyper(listener, Fixed::read(&place), stopped).await,
            other => panic!("no such role: {other}"),
        }
    });
}

async fn kappa(listener: TcpListener, place: PathBuf, stopped: oneshot::Receiver<()>) {
    let kappa = Kappa::open(place.join("kappa")).expect("a new directory");
    let document = |number| Document::parse(product_with_id(&id(number), number)).expect("a product is a document");
    // One batch gives all of them one version, and so answers of one length.
    let batch = (0..PRODUCTS).fold(kappa.batch(), |batch, number| batch.create("products", document(number)));
    batch.commit().await.expect("the ids are new");
    let stop = async { drop(stopped.await) };
    kappa_server::serve(kappa.clone(), ServerOptions::default(), listener, stop).await.expect("it serves");
    kappa.close().expect("the database closes");
}

/// The answer of the bare servers.
#[derive(Clone)]
struct Fixed {
    headers: HeaderMap,
    body: Bytes,
}

impl Fixed {
    fn read(place: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(place.join(ANSWER)).expect("the parent wrote it");
        let answer = Answer::from_text(&text);
        let header = |(name, value): &(String, String)| {
            let name: HeaderName = name.parse().expect("a name from a real answer");
            let value: HeaderValue = value.parse().expect("a value from a real answer");
            // hyper adds these two itself.
            (name != "content-length" && name != "date").then_some((name, value))
        };
        Self { headers: answer.headers.iter().filter_map(header).collect(), body: answer.body.into() }
    }
}

async fn bare_axum(listener: TcpListener, fixed: Fixed, stopped: oneshot::Receiver<()>) {
    let answer = move |Path(_id): Path<String>| {
        let Fixed { headers, body } = fixed.clone();
        async move { (headers, body).into_response() }
    };
    let router = Router::new().route("/v1/products/{id}", get(answer));
    let serve =
        axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), router);
    tokio::select! {
        served = serve => served.expect("it serves"),
        _ = stopped => {}
    }
}

async fn bare_hyper(listener: TcpListener, fixed: Fixed, mut stopped: oneshot::Receiver<()>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.expect("loopback connects").0,
            _ = &mut stopped => return,
        };
        stream.set_nodelay(true).expect("the stream is open");
        let fixed = fixed.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let Fixed { headers, body } = fixed.clone();
            let mut response = Response::new(Full::new(body));
            *response.headers_mut() = headers;
            async { Ok::<_, Infallible>(response) }
        });
        // The loader closes its connections when it likes.
        tokio::spawn(async move {
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}
