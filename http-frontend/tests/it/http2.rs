//! The same routes over HTTP/2.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::server::Server;

/// Many requests on one connection must not mix their answers up, and the server must tell the host's name from
/// `:authority`, since there is no `Host` header.
#[test]
fn requests_share_one_connection() {
    const REQUESTS: usize = 50;
    let mut server = Server::start();
    let address = server.client.0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut sender, connection) = runtime.block_on(async {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap()
    });
    let connection = runtime.spawn(connection);
    runtime.block_on(async {
        let mut answers = Vec::new();
        for n in 0..REQUESTS {
            let body = format!(r#"{{"id":"h{n}","title":"T","price":{n}}}"#);
            let request = Request::post(format!("http://{address}/v1/products"))
                .header("content-type", "application/json")
                .body(Body::from(body.clone()))
                .unwrap();
            sender.ready().await.unwrap();
            answers.push((body, sender.send_request(request)));
        }
        for (body, answer) in answers {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 201);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body);
        }
        let evil = Request::get("http://evil.test/livez").body(Body::empty()).unwrap();
        assert_eq!(sender.send_request(evil).await.unwrap().status(), 403);
    });
    server.ask_to_stop();
    runtime.block_on(connection).unwrap().unwrap();
    server.end();
}
