//! The route table: what answers where.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{
    batch, changes, changes_page, check, collections, documents, health, info, openapi, operations, queues, randoms,
    schedules, task_events, tasks, work,
};
use crate::app::App;
use crate::error::Problem;
use crate::seed_routes;

/// Routes that are described; products and users share the handlers of `/v1/collections/{name}`.
pub fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(collections::collections))
        .routes(routes!(documents::list, documents::create))
        .routes(routes!(documents::read, documents::replace, documents::update, documents::delete))
        .routes(routes!(collections::describe, collections::declare))
        .routes(routes!(collections::drop_index))
        .routes(routes!(batch::batch))
        .routes(routes!(operations::operations))
        .routes(routes!(randoms::randoms))
        .routes(routes!(info::info))
        .routes(routes!(check::check))
        .routes(routes!(changes::changes))
        .routes(routes!(changes_page::changes_page))
        .routes(routes!(tasks::list, tasks::create))
        .routes(routes!(tasks::create_many))
        .routes(routes!(tasks::read, tasks::delete))
        .routes(routes!(task_events::follow))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::retry))
        .routes(routes!(queues::list))
        .routes(routes!(queues::read, queues::configure))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::drain))
        .routes(routes!(queues::redrive))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::put, schedules::delete))
        .routes(routes!(work::claim))
        .routes(routes!(work::complete))
        .routes(routes!(work::renew))
        .routes(routes!(work::progress))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
}

/// Every route; [`crate::guard::answer`] stands before it.
pub fn router(app: App) -> Router {
    let (described, _) = described().split_for_parts();
    described
        .route("/v1/products", documents::list_routes())
        .route("/v1/products/{id}", documents::document_routes())
        .route("/v1/users", documents::list_routes())
        .route("/v1/users/{id}", documents::document_routes())
        .route("/openapi.json", get(openapi::openapi))
        .route("/", get(home))
        .route("/console.js", get(console))
        .merge(seed_routes::router())
        .fallback(unknown)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

/// The console page asks this server and nobody else, and runs only the script beside it.
const HOME_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn home() -> Response {
    ([(CONTENT_SECURITY_POLICY, HOME_POLICY)], Html(include_str!("home.html"))).into_response()
}

async fn console() -> Response {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("console.js")).into_response()
}

async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    if seed_routes::owns(path) {
        return seed_routes::unknown(&request);
    }
    Problem::new(StatusCode::NOT_FOUND, "route_not_found", format!("nothing answers at {path}")).into_response()
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} is not possible at {}; Allow says what is", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
