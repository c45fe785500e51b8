//! A request's body as fields, from JSON or from a form.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::errors::body_status;
use crate::app::App;
use crate::body::{media_type, read};

/// Why there are no fields; each route answers it in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The body did not arrive as it must.
    Body(StatusCode),
    /// It is no JSON.
    Malformed,
    /// It is JSON, but no object.
    NoObject,
}

/// The fields of a JSON object or of a form, whose values are strings. A body of any other type has no fields: the
/// parsers of those systems passed it by.
pub async fn fields(app: &App, request: Request<Body>) -> Result<Map<String, Value>, Unreadable> {
    let (parts, body) = request.into_parts();
    let body = read(&parts.headers, body, &app.options).await;
    let body = body.map_err(|error| Unreadable::Body(body_status(error)))?;
    match media_type(&parts.headers).as_str() {
        "application/json" => match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(Unreadable::NoObject),
            Err(_) => Err(Unreadable::Malformed),
        },
        "application/x-www-form-urlencoded" => {
            let pairs = form_urlencoded::parse(&body);
            Ok(pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect())
        }
        _ => Ok(Map::new()),
    }
}
