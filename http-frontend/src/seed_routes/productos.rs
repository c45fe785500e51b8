//! `/api/productos`: the shop's products.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kappa_core::env::Env;
use kappa_core::{
    CallOptions, CollectionName, Direction, Document, Entry, Error, ListRequest, Operation, Order, Products,
};
use serde_json::{Map, Value, json};

use super::errors::{shop, shop_failure};
use super::fields::{Unreadable, fields};
use super::price::price;
use crate::api::documents::DocumentId;
use crate::app::App;
use crate::error::Problem;
use crate::page;

/// Documents that are in memory at once while the whole list is sent.
const PAGE: usize = 500;
/// Products of the mock.
const MOCK_COUNT: usize = 5;

const BAD_VALUES: &str = "Los valores enviados no son válidos";
const BAD_ID: &str = "El parámetro no es válido";
const NO_FIELDS: &str = "No hay campos válidos para actualizar";
const NOT_FOUND: &str = "Producto no encontrado";
const NO_LIST: &str = "No se pudo recuperar la infomación"; // spelled as its clients know it
const NOT_ADDED: &str = "No se pudo agregar el producto";
const NOT_UPDATED: &str = "No se pudo actualizar el producto";
const NOT_DELETED: &str = "No se pudo eliminar el producto";

fn products() -> CollectionName {
    CollectionName::new("products").expect("the name keeps the rule")
}

/// Every product as one array, sent page by page.
pub async fn list(State(app): State<App>) -> Response {
    // The first page is read before the head is sent, so that a failure is still a status.
    match next_page(&app, None).await {
        Err(error) => shop_failure(error, NO_LIST),
        Ok((entries, after)) => {
            let listing = Listing { app, ready: Some(entries), after, sent: 0, ended: false };
            let parts = stream::unfold(listing, |mut listing| async move {
                let part = listing.next().await?;
                Some((part, listing))
            });
            page::json(Body::from_stream(parts))
        }
    }
}

/// One list on its way.
struct Listing {
    app: App,
    ready: Option<Vec<Entry>>,
    after: Option<String>,
    sent: usize,
    ended: bool,
}

impl Listing {
    /// The next piece of the array's text; an error breaks the answer off, so that nobody takes half a list for all.
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.ended {
            return None;
        }
        let entries = match self.ready.take() {
            Some(entries) => entries,
            None => match next_page(&self.app, self.after.take()).await {
                Ok((entries, after)) => {
                    self.after = after;
                    entries
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            },
        };
        let mut text = Vec::new();
        for entry in &entries {
            text.push(if self.sent == 0 { b'[' } else { b',' });
            text.extend_from_slice(entry.document.text().as_bytes());
            self.sent += 1;
        }
        if self.after.is_none() {
            self.ended = true;
            text.extend_from_slice(if self.sent == 0 { b"[]" } else { b"]" });
        }
        Some(Ok(text.into()))
    }
}

async fn next_page(app: &App, after: Option<String>) -> Result<(Vec<Entry>, Option<String>), Error> {
    let request = ListRequest {
        collection: products(),
        order: Order::Creation,
        direction: Direction::Forward,
        limit: PAGE,
        after,
    };
    let page = app.list(request).await?;
    Ok((page.entries, page.next))
}

/// Adds a product.
pub async fn create(State(app): State<App>, request: Request) -> Response {
    let sent = match fields(&app, request).await {
        Ok(sent) => sent,
        Err(unreadable) => return refused(unreadable),
    };
    let Some(Ok(Some(title))) = sent.get("title").map(title) else { return shop(StatusCode::BAD_REQUEST, BAD_VALUES) };
    let Some(Ok(Some(price))) = sent.get("price").map(amount) else { return shop(StatusCode::BAD_REQUEST, BAD_VALUES) };
    let Some(Ok(Some(thumbnail))) = sent.get("thumbnail").map(address) else {
        return shop(StatusCode::BAD_REQUEST, BAD_VALUES);
    };
    let product = [("title", title), ("price", price), ("thumbnail", thumbnail)];
    let fields: Map<_, _> = product.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let document = match Document::from_fields(&fields) {
        Ok(document) => document,
        Err(error) => return shop_failure(error, NOT_ADDED),
    };
    let operation = Operation::Create { collection: products(), document, ttl_ms: None };
    match app.write(operation, CallOptions::default()).await {
        Err(error) => shop_failure(error, NOT_ADDED),
        Ok(entry) => with_document(StatusCode::CREATED, "newProduct", &entry),
    }
}

/// One product.
pub async fn read(State(app): State<App>, id: Result<DocumentId, Problem>) -> Response {
    let Some(id) = allowed(id) else { return shop(StatusCode::BAD_REQUEST, BAD_ID) };
    match app.get(products(), id).await {
        Err(error) => shop_failure(error, NO_LIST),
        Ok(None) => shop(StatusCode::NOT_FOUND, NOT_FOUND),
        Ok(Some(entry)) => page::json(entry.document.bytes()),
    }
}

/// Sets the fields that were sent; an empty string leaves its field as it is.
pub async fn update(State(app): State<App>, id: Result<DocumentId, Problem>, request: Request) -> Response {
    let Some(id) = allowed(id) else { return shop(StatusCode::BAD_REQUEST, BAD_ID) };
    let sent = match fields(&app, request).await {
        Ok(sent) => sent,
        Err(unreadable) => return refused(unreadable),
    };
    let checks: [(&str, Check); 3] = [("title", title), ("price", amount), ("thumbnail", address)];
    let mut patch = Map::new();
    for (name, check) in checks {
        match sent.get(name).map(check) {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(value))) => {
                patch.insert(name.to_owned(), value);
            }
            Some(Err(())) => return shop(StatusCode::BAD_REQUEST, BAD_VALUES),
        }
    }
    if patch.is_empty() {
        return shop(StatusCode::BAD_REQUEST, NO_FIELDS);
    }
    let patch = match Document::from_fields(&patch) {
        Ok(patch) => patch,
        Err(error) => return shop_failure(error, NOT_UPDATED),
    };
    let operation = Operation::Update { collection: products(), id, patch, if_version: None, ttl_ms: None };
    match app.write(operation, CallOptions::default()).await {
        Err(error) => shop_failure(error, NOT_UPDATED),
        Ok(entry) => with_document(StatusCode::OK, "updateProduct", &entry),
    }
}

/// Removes a product.
pub async fn delete(State(app): State<App>, id: Result<DocumentId, Problem>) -> Response {
    let Some(id) = allowed(id) else { return shop(StatusCode::BAD_REQUEST, BAD_ID) };
    let operation = Operation::Delete { collection: products(), id: id.clone(), if_version: None };
    match app.delete(operation, CallOptions::default()).await {
        Err(error) => shop_failure(error, NOT_DELETED),
        Ok(false) => shop(StatusCode::NOT_FOUND, NOT_FOUND),
        Ok(true) => Json(json!({ "result": "ok", "deletedId": id })).into_response(),
    }
}

/// Five products that are stored nowhere; ids are the numbers 1 to 5, and the price is text with two decimals.
pub async fn mock() -> Json<Vec<Value>> {
    let mut seed = [0; 8];
    Env::default().entropy.fill(&mut seed);
    let products = Products::mock(MOCK_COUNT, u64::from_le_bytes(seed));
    Json(products.iter().enumerate().map(|(index, product)| made_up(index + 1, product.fields())).collect())
}

fn made_up(id: usize, fields: &Map<String, Value>) -> Value {
    let price = fields.get("price").and_then(Value::as_f64).unwrap_or_default();
    json!({ "id": id, "title": fields.get("title"), "price": format!("{price:.2}"), "thumbnail": fields.get("thumbnail") })
}

fn refused(unreadable: Unreadable) -> Response {
    let status = match unreadable {
        Unreadable::Body(status) => status,
        Unreadable::Malformed | Unreadable::NoObject => StatusCode::BAD_REQUEST,
    };
    shop(status, BAD_VALUES)
}

/// `{"result":"ok", name: product}` with the product's text as it is stored.
fn with_document(status: StatusCode, name: &str, entry: &Entry) -> Response {
    let text = format!("{{\"result\":\"ok\",\"{name}\":{}}}", entry.document.text());
    (status, page::json(text)).into_response()
}

/// The id of the path, where it keeps the shop's rule `^[\w-]+$`.
fn allowed(id: Result<DocumentId, Problem>) -> Option<String> {
    let DocumentId(id) = id.ok()?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!id.is_empty() && id.bytes().all(word)).then_some(id)
}

/// Gives the value to keep, none for an empty string, or an error for what is wrong: white space alone is no empty string.
type Check = fn(&Value) -> Result<Option<Value>, ()>;

/// A title holds a word character of any script; none stands for an empty string.
fn title(value: &Value) -> Result<Option<Value>, ()> {
    let text = text(value)?;
    let word = text.chars().any(|letter| letter.is_alphanumeric() || letter == '_');
    kept(text, word)
}

/// A price; none stands for an empty string.
fn amount(value: &Value) -> Result<Option<Value>, ()> {
    if value.as_str().is_some_and(str::is_empty) { Ok(None) } else { price(value).map(Some).ok_or(()) }
}

/// An address `^(ftp|http|https)://[^ "]+$`; none stands for an empty string.
fn address(value: &Value) -> Result<Option<Value>, ()> {
    let text = text(value)?;
    let rest = ["ftp://", "http://", "https://"].iter().find_map(|scheme| text.trim().strip_prefix(scheme));
    kept(text, rest.is_some_and(|rest| !rest.is_empty() && !rest.contains([' ', '"'])))
}

fn text(value: &Value) -> Result<&str, ()> {
    value.as_str().ok_or(())
}

fn kept(text: &str, good: bool) -> Result<Option<Value>, ()> {
    match (text.is_empty(), good) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(text.trim().into())),
        (false, false) => Err(()),
    }
}
