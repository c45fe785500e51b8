//! `/api/user`: the replicated users, in their envelope and with their validator's messages.

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use email_address::{EmailAddress, Options};
use kappa_core::{CallOptions, CollectionName, Document, ErrorKind, Operation};
use serde_json::{Map, Value};

use super::errors::{users, users_at, users_failure, users_success};
use super::fields::{Unreadable, fields};
use crate::api::documents::DocumentId;
use crate::app::App;
use crate::error::Problem;
use crate::page;

/// The largest number that every reader of JSON keeps exactly.
const MAX_SAFE: i64 = (1 << 53) - 1;

fn collection() -> CollectionName {
    CollectionName::new("users").expect("the name keeps the rule")
}

/// One user.
pub async fn read(State(app): State<App>, uri: Uri, id: Result<DocumentId, Problem>) -> Response {
    let Ok(DocumentId(id)) = id else { return users(StatusCode::BAD_REQUEST, "id is not valid UTF-8") };
    match app.get(collection(), id.clone()).await {
        Err(error) => users_failure(error),
        Ok(None) => users_at(StatusCode::NOT_FOUND, &format!("Key not found in database [{id}]"), &uri),
        Ok(Some(entry)) => {
            let data = entry.document.text();
            page::json(format!("{{\"statusCode\":\"10000\",\"message\":\"success\",\"data\":{data}}}"))
        }
    }
}

/// Adds a user.
pub async fn create(State(app): State<App>, request: Request) -> Response {
    let user = match user(&app, request).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let document = match Document::from_fields(&user) {
        Ok(document) => document,
        Err(error) => return users_failure(error),
    };
    let operation = Operation::Create { collection: collection(), document, ttl_ms: None };
    match app.write(operation, CallOptions::default()).await {
        Err(error) => users_failure(error),
        Ok(_) => users_success(StatusCode::CREATED),
    }
}

/// Sets the fields that were sent; the id stands in the body.
pub async fn update(State(app): State<App>, request: Request) -> Response {
    let mut user = match user(&app, request).await {
        Ok(user) => user,
        Err(refusal) => return refusal,
    };
    let Some(Value::String(id)) = user.shift_remove("id") else {
        return users(StatusCode::BAD_REQUEST, "id is required");
    };
    let patch = match Document::from_fields(&user) {
        Ok(patch) => patch,
        Err(error) => return users_failure(error),
    };
    let operation = Operation::Update { collection: collection(), id, patch, if_version: None, ttl_ms: None };
    match app.write(operation, CallOptions::default()).await {
        Err(error) => users_failure(error),
        Ok(_) => users_success(StatusCode::OK),
    }
}

/// Removes a user; one that does not exist is told apart.
pub async fn delete(State(app): State<App>, uri: Uri, id: Result<DocumentId, Problem>) -> Response {
    let Ok(DocumentId(id)) = id else { return users(StatusCode::BAD_REQUEST, "id is not valid UTF-8") };
    let operation = Operation::Delete { collection: collection(), id: id.clone(), if_version: None };
    match app.delete(operation, CallOptions::default()).await {
        Err(error) if error.kind() != ErrorKind::NotFound => users_failure(error),
        Ok(true) => users_success(StatusCode::OK),
        _ => users_at(StatusCode::NOT_FOUND, &format!("Key not found in database [{id}]"), &uri),
    }
}

/// The user of the body, checked.
async fn user(app: &App, request: Request) -> Result<Map<String, Value>, Response> {
    let bad = |text: &str| users(StatusCode::BAD_REQUEST, text);
    let sent = fields(app, request).await.map_err(|unreadable| match unreadable {
        Unreadable::Body(status) => users(status, "the body was not accepted"),
        Unreadable::Malformed => bad("the body is not valid JSON"),
        Unreadable::NoObject => bad("value must be of type object"),
    })?;
    checked(sent).map_err(|messages| bad(&messages.join(",")))
}

/// The user with its fields in their usual order, or every message: known fields first, then unknown ones.
fn checked(mut sent: Map<String, Value>) -> Result<Map<String, Value>, Vec<String>> {
    let checks: [(&str, Check); 4] = [("id", text), ("name", text), ("email", email), ("group", group)];
    let (mut user, mut messages) = (Map::new(), Vec::new());
    for (name, check) in checks {
        match sent.shift_remove(name).as_ref().map(check) {
            None if name == "id" => messages.push("id is required".to_owned()),
            None => {}
            Some(Ok(value)) => {
                user.insert(name.to_owned(), value);
            }
            Some(Err(rule)) => messages.push(format!("{name} {rule}")),
        }
    }
    messages.extend(sent.keys().map(|name| format!("{name} is not allowed")));
    if messages.is_empty() { Ok(user) } else { Err(messages) }
}

/// Gives the value to keep, or the rule it breaks.
type Check = fn(&Value) -> Result<Value, &'static str>;

fn text(value: &Value) -> Result<Value, &'static str> {
    match value {
        Value::String(text) if text.is_empty() => Err("is not allowed to be empty"),
        Value::String(_) => Ok(value.clone()),
        _ => Err("must be a string"),
    }
}

fn email(value: &Value) -> Result<Value, &'static str> {
    let value = text(value)?;
    let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
    let valid = value.as_str().is_some_and(|text| EmailAddress::parse_with_options(text, options).is_ok());
    if valid { Ok(value) } else { Err("must be a valid email") }
}

/// A whole number, also as text, since a form has nothing else.
fn group(value: &Value) -> Result<Value, &'static str> {
    let digits = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return Err("must be a number"),
    };
    let number: f64 = digits.parse().map_err(|_| "must be a number")?;
    if !number.is_finite() {
        return Err("must be a number");
    }
    if number.fract() != 0.0 {
        return Err("must be an integer");
    }
    if number.abs() > MAX_SAFE as f64 {
        return Err("must be a safe number");
    }
    Ok(Value::from(number as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let Value::Object(fields) = serde_json::from_str(text).expect("JSON") else { panic!("an object") };
        checked(fields).map_or_else(|messages| messages.join(","), |user| Value::Object(user).to_string())
    }

    /// Clients show these messages, all of them at once.
    #[test]
    fn messages_are_the_validators() {
        for (sent, expected) in [
            ("{}", "id is required"),
            (r#"{"id":1}"#, "id must be a string"),
            (r#"{"id":""}"#, "id is not allowed to be empty"),
            (r#"{"id":null,"name":""}"#, "id must be a string,name is not allowed to be empty"),
            (
                r#"{"x":1,"id":"a","email":"nobody","y":2}"#,
                "email must be a valid email,x is not allowed,y is not allowed",
            ),
            (r#"{"id":"a","email":"a@localhost"}"#, "email must be a valid email"),
            (r#"{"id":"a","group":1.5}"#, "group must be an integer"),
            (r#"{"id":"a","group":"x"}"#, "group must be a number"),
            (r#"{"id":"a","group":true}"#, "group must be a number"),
            (r#"{"id":"a","group":9007199254740993}"#, "group must be a safe number"),
            (r#"{"id":"a","group":1e400}"#, "group must be a number"),
        ] {
            assert_eq!(message(sent), expected, "{sent}");
        }
    }

    #[test]
    fn good_users_keep_their_fields_in_order() {
        assert_eq!(
            message(r#"{"group":"0","email":"a@b.museum","name":"N","id":"1"}"#),
            r#"{"id":"1","name":"N","email":"a@b.museum","group":0}"#
        );
        assert_eq!(message(r#"{"id":"a","group":-3.0}"#), r#"{"id":"a","group":-3}"#);
    }
}
