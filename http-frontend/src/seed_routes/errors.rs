//! The error bodies of the shop and of the replicated users.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kappa_core::{Error, ErrorKind};
use serde_json::json;

use crate::body::BodyError;
use crate::error::{Problem, status};

/// An error of the shop: `{"error": text}`.
pub fn shop(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// A failed call of the shop: what was sent is wrong, or `action` did not work.
pub fn shop_failure(error: Error, action: &str) -> Response {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::TooLarge => {
            shop(status(error.kind()), "Los valores enviados no son válidos")
        }
        ErrorKind::NotFound => shop(StatusCode::NOT_FOUND, "Producto no encontrado"),
        _ => {
            let problem = Problem::from(error);
            let mut response = shop(problem.status, action);
            keep_retry_after(&mut response, problem);
            response
        }
    }
}

/// Success of the users: `{"statusCode":"10000","message":"success"}`.
pub fn users_success(status: StatusCode) -> Response {
    (status, Json(json!({ "statusCode": "10000", "message": "success" }))).into_response()
}

/// An error of the users: `{"statusCode":"10001","message": text}`.
pub fn users(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "statusCode": "10001", "message": text }))).into_response()
}

/// An error of the users that names the address.
pub fn users_at(status: StatusCode, text: &str, uri: &Uri) -> Response {
    (status, Json(json!({ "statusCode": "10001", "message": text, "url": address(uri) }))).into_response()
}

/// A failed call of the users.
pub fn users_failure(error: Error) -> Response {
    match error.kind() {
        ErrorKind::AlreadyExists => users(StatusCode::CONFLICT, "User already exists"),
        ErrorKind::NotFound => users(StatusCode::NOT_FOUND, "User does not exist"),
        kind if status(kind).is_client_error() => users(status(kind), error.message()),
        _ => {
            let problem = Problem::from(error);
            let mut response = users(problem.status, "Internal error");
            keep_retry_after(&mut response, problem);
            response
        }
    }
}

fn keep_retry_after(response: &mut Response, problem: Problem) {
    use axum::http::header::RETRY_AFTER;
    if let Some(seconds) = problem.into_response().headers_mut().remove(RETRY_AFTER) {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
}

/// The status of a body that was not read.
pub fn body_status(error: BodyError) -> StatusCode {
    Problem::from(error).status
}

/// Nothing is at this path, or not by this method.
pub fn unknown(method: &Method, uri: &Uri) -> Response {
    let path = uri.path();
    if path == "/api/user" || path.starts_with("/api/user/") {
        return users_at(StatusCode::NOT_FOUND, "Not Found", uri);
    }
    let text = format!("ruta '{path}' método '{method}' no implementada");
    (StatusCode::NOT_FOUND, Json(json!({ "error": -2, "descripcion": text }))).into_response()
}

fn address(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |address| address.as_str())
}
