//! Routes of earlier systems, as their clients call them: Spanish texts and envelopes live here and nowhere else.

mod errors;
mod execute;
mod fields;
mod price;
mod productos;
mod randoms;
mod status;
mod tasks;
mod user;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};

use crate::app::App;

/// Each route with and without one trailing slash. Another method of a known path answers as an unknown path does,
/// because those systems told them apart by neither.
pub fn router() -> Router<App> {
    let routes: [(&str, MethodRouter<App>); 8] = [
        ("/api/productos", get(productos::list).post(productos::create)),
        ("/api/productos/{id}", get(productos::read).put(productos::update).delete(productos::delete)),
        ("/api/productos-test", get(productos::mock)),
        ("/api/randoms", get(randoms::randoms)),
        ("/api/user", post(user::create).put(user::update)),
        ("/api/user/{id}", get(user::read).delete(user::delete)),
        ("/api/execute", post(execute::execute)),
        ("/api/status", get(status::status)),
    ];
    // Other methods of these answer as those of `/v1` do: that system had no answer of its own.
    let tasks = Router::new().route("/tasks", post(tasks::create)).route("/tasks/", post(tasks::create));
    let tasks = tasks.route("/tasks/{id}", get(tasks::read)).route("/tasks/{id}/", get(tasks::read));
    routes.into_iter().fold(tasks, |router, (path, methods)| {
        let methods = methods.fallback(fallback);
        router.route(path, methods.clone()).route(&format!("{path}/"), methods)
    })
}

/// Whether unknown paths like this one are answered by [`unknown`].
pub fn owns(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// What those systems answer where nothing is.
pub fn unknown(request: &Request) -> Response {
    errors::unknown(request.method(), request.uri())
}

async fn fallback(request: Request) -> Response {
    unknown(&request)
}
