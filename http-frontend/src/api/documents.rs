//! Documents of any collection: create, read, replace, patch, delete and list. Products and users use the same routes.
#![expect(unused_qualifications, reason = "the description macro names parameter types by their full path")]

use std::sync::LazyLock;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use kappa_core::{CallOptions, CollectionName, Document, Entry, ErrorKind, Operation};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::body::{JsonBody, PatchBody};
use crate::error::Problem;
use crate::etag::{CONDITIONS, etag, failed, if_match, is_known, must_be_new, refuse};
use crate::page::{ListQuery, Params, json, many, page};

/// The header that makes a write safe to repeat.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What stays as it is in a path segment (RFC 3986 unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One JSON object. Its `id` names it in its collection; without one it gets a UUID v7.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnyDocument {
    /// 1 to 256 bytes without control characters.
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// Any further fields.
    #[serde(flatten)]
    #[schema(additional_properties, value_type = Object)]
    pub fields: serde_json::Map<String, Value>,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentPage {
    /// The documents, as they are stored.
    pub items: Vec<AnyDocument>,
    /// Give it as `after` to get the next page; null when this was the last.
    #[schema(required)]
    pub next: Option<String>,
}

/// Some documents by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentSelection {
    /// In the order of the ids; null for those that do not exist.
    pub items: Vec<Option<AnyDocument>>,
}

/// A number of documents.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Count {
    /// How many there are, expired ones that are not swept yet included.
    pub count: u64,
}

/// What a list was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described: answers pass documents through as they are stored")]
pub enum DocumentList {
    /// One page, where neither `ids` nor `count` is given.
    Page(DocumentPage),
    /// With `ids`.
    Selection(DocumentSelection),
    /// With `count=true`.
    Count(Count),
}

/// What a write may say beside its document.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WriteQuery {
    /// How long the document lives, in milliseconds from now; where none is given, a new or replaced document lives as
    /// its collection says, and a patched one keeps the end it had.
    #[param(required = false)]
    pub ttl_ms: Option<u64>,
}

/// The collection that a path names: `{name}` in it, or the segment behind `/v1/`.
#[derive(Debug)]
pub struct Target(pub CollectionName);

impl FromRequestParts<App> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let params = params(parts, app).await?;
        Ok(Self(collection(&params, parts)?))
    }
}

/// A document that a path names: its collection as [`Target`] finds it, and the id at the end, decoded.
#[derive(Debug)]
pub struct Member(pub CollectionName, pub String);

impl FromRequestParts<App> for Member {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let params = params(parts, app).await?;
        Ok(Self(collection(&params, parts)?, id(&params)))
    }
}

/// The id at the end of a path, decoded.
#[derive(Debug)]
pub struct DocumentId(pub String);

impl FromRequestParts<App> for DocumentId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(Self(id(&params(parts, app).await?)))
    }
}

async fn params(parts: &mut Parts, app: &App) -> Result<RawPathParams, Problem> {
    let params = RawPathParams::from_request_parts(parts, app).await;
    params.map_err(|rejection| Problem::invalid(rejection.body_text()))
}

fn id(params: &RawPathParams) -> String {
    params.iter().find(|(key, _)| *key == "id").map(|(_, id)| id.to_owned()).expect("these routes name an id")
}

fn collection(params: &RawPathParams, parts: &Parts) -> Result<CollectionName, Problem> {
    static PRODUCTS: LazyLock<CollectionName> = LazyLock::new(|| fixed("products"));
    static USERS: LazyLock<CollectionName> = LazyLock::new(|| fixed("users"));
    if let Some((_, name)) = params.iter().find(|(key, _)| *key == "name") {
        return Ok(CollectionName::new(name)?);
    }
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    match path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()) {
        Some("products") => Ok(PRODUCTS.clone()),
        Some("users") => Ok(USERS.clone()),
        name => Ok(CollectionName::new(name.unwrap_or_default())?),
    }
}

fn fixed(name: &str) -> CollectionName {
    CollectionName::new(name).expect("a fixed name is a legal one")
}

/// What the headers say about a write.
///
/// # Errors
/// 400 for a key that is no text.
pub fn call_options(headers: &HeaderMap) -> Result<CallOptions, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(CallOptions::default()) };
    let text = value.to_str().map_err(|_| Problem::invalid("an Idempotency-Key is plain ASCII text"))?.trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    Ok(CallOptions { idempotency_key: Some(key.to_owned()), ..CallOptions::default() })
}

/// The routes of a collection's list.
pub fn list_routes() -> MethodRouter<App> {
    get(list).post(create)
}

/// The routes of one document.
pub fn document_routes() -> MethodRouter<App> {
    get(read).put(replace).patch(update).delete(delete)
}

/// Lists documents.
///
/// One page in order of creation or by an index; some documents by id; or only their number. A page ends at `limit`
/// documents or 1 MiB; `next` and the `Link` header lead to the page behind it. What exists from the first page to the
/// last comes exactly once.
#[utoipa::path(get, path = "/v1/collections/{name}", tag = "collections", operation_id = "list_documents",
    params(("name" = String, Path, description = "The collection"), ListQuery),
    responses((status = 200, description = "One page, or what else was asked for", body = DocumentList), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(app): State<App>,
    Target(collection): Target,
    uri: Uri,
    Params(query): Params<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    if query.count {
        let count = app.count(collection).await?;
        return Ok(json(format!("{{\"count\":{count}}}")));
    }
    if let Some(ids) = &query.ids {
        let ids = ids.split(',').map(str::to_owned).collect();
        return Ok(many(&app.get_many(collection, ids).await?));
    }
    let found = app.list(query.request(collection)?).await?;
    Ok(page(&uri, &found.entries, found.next.as_deref()))
}

/// Creates a document.
///
/// Without an `id` it gets a UUID v7. A write with an `Idempotency-Key` can be repeated for 24 hours.
#[utoipa::path(post, path = "/v1/collections/{name}", tag = "collections", operation_id = "create_document",
    params(("name" = String, Path, description = "The collection"), WriteQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the write safe to repeat")),
    request_body = AnyDocument,
    responses((status = 201, description = "Created", body = AnyDocument), (status = 409, description = "The id or a unique value is taken", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(app): State<App>,
    Target(collection): Target,
    uri: Uri,
    Params(WriteQuery { ttl_ms }): Params<WriteQuery>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let document = Document::parse(body)?;
    let entry = app.write(Operation::Create { collection, document, ttl_ms }, call_options(&headers)?).await?;
    Ok(created(&uri, &entry, true))
}

/// Reads a document.
///
/// Its `ETag` is its version; with `If-None-Match` a version the client has already is not sent again.
#[utoipa::path(get, path = "/v1/collections/{name}/{id}", tag = "collections", operation_id = "read_document",
    params(("name" = String, Path, description = "The collection"), ("id" = String, Path, description = "The document"),
        ("If-None-Match" = Option<String>, Header, description = "Entity tags the client has")),
    responses((status = 200, description = "The document as it stands", body = AnyDocument), (status = 304, description = "Not changed"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn read(
    State(app): State<App>,
    Member(collection, id): Member,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    refuse(headers, &[IF_MATCH])?;
    let Some(entry) = app.get(collection, id.clone()).await? else { return Err(no_such_document(&id)) };
    if is_known(headers, entry.version) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag(entry.version))]).into_response());
    }
    Ok(found(&entry))
}

/// Replaces a document.
///
/// With `If-Match` only the named version is replaced. With `If-None-Match: *` the document is created under this id
/// and must not exist yet.
#[utoipa::path(put, path = "/v1/collections/{name}/{id}", tag = "collections", operation_id = "replace_document",
    params(("name" = String, Path, description = "The collection"), ("id" = String, Path, description = "The document"), WriteQuery,
        ("If-Match" = Option<String>, Header, description = "The entity tag the document must have"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: create, do not replace"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the write safe to repeat")),
    request_body = AnyDocument,
    responses((status = 200, description = "The document as it stands", body = AnyDocument), (status = 201, description = "Created", body = AnyDocument),
        (status = 412, description = "The document has another version", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn replace(
    State(app): State<App>,
    Member(collection, id): Member,
    uri: Uri,
    Params(WriteQuery { ttl_ms }): Params<WriteQuery>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let document = Document::parse(body)?;
    let options = call_options(&headers)?;
    if must_be_new(&headers)? {
        let document = named(document, &id)?;
        let written = app.write(Operation::Create { collection, document, ttl_ms }, options).await;
        return match written {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Problem::precondition(error.to_string())),
            other => Ok(created(&uri, &other?, false)),
        };
    }
    let if_version = if_match(&headers)?;
    let operation = Operation::Replace { collection, id, document, if_version, ttl_ms };
    let written = app.write(operation, options).await;
    Ok(found(&written.map_err(|error| failed(&headers, error))?))
}

/// Patches a document.
///
/// The body is a merge patch (RFC 7396): named fields are set, null removes one, the others stay.
#[utoipa::path(patch, path = "/v1/collections/{name}/{id}", tag = "collections", operation_id = "update_document",
    params(("name" = String, Path, description = "The collection"), ("id" = String, Path, description = "The document"), WriteQuery,
        ("If-Match" = Option<String>, Header, description = "The entity tag the document must have"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the write safe to repeat")),
    request_body(content((AnyDocument = "application/merge-patch+json"), (AnyDocument = "application/json"))),
    responses((status = 200, description = "The document as it stands", body = AnyDocument),
        (status = 412, description = "The document has another version", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn update(
    State(app): State<App>,
    Member(collection, id): Member,
    Params(WriteQuery { ttl_ms }): Params<WriteQuery>,
    headers: HeaderMap,
    PatchBody(body): PatchBody,
) -> Result<Response, Problem> {
    refuse(&headers, &[IF_NONE_MATCH])?;
    let patch = Document::parse(body)?;
    let (if_version, options) = (if_match(&headers)?, call_options(&headers)?);
    let operation = Operation::Update { collection, id, patch, if_version, ttl_ms };
    let written = app.write(operation, options).await;
    Ok(found(&written.map_err(|error| failed(&headers, error))?))
}

/// Deletes a document.
#[utoipa::path(delete, path = "/v1/collections/{name}/{id}", tag = "collections", operation_id = "delete_document",
    params(("name" = String, Path, description = "The collection"), ("id" = String, Path, description = "The document"),
        ("If-Match" = Option<String>, Header, description = "The entity tag the document must have"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the write safe to repeat")),
    responses((status = 204, description = "Deleted"),
        (status = 412, description = "The document has another version", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn delete(
    State(app): State<App>,
    Member(collection, id): Member,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    refuse(&headers, &[IF_NONE_MATCH])?;
    let (if_version, options) = (if_match(&headers)?, call_options(&headers)?);
    let operation = Operation::Delete { collection, id: id.clone(), if_version };
    if app.delete(operation, options).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let problem = no_such_document(&id);
    Err(if headers.contains_key(IF_MATCH) { Problem::precondition(problem.detail) } else { problem })
}

fn no_such_document(id: &str) -> Problem {
    Problem::not_found(format!("no such document id={id}"))
}

/// The document with its version.
fn found(entry: &Entry) -> Response {
    let mut response = json(entry.document.bytes());
    response.headers_mut().insert(ETAG, etag(entry.version));
    response
}

/// As [`found`], with 201 and where the document is from now on; `below` when the request went to its list.
fn created(uri: &Uri, entry: &Entry, below: bool) -> Response {
    let mut location = uri.path().to_owned();
    if below {
        location.push('/');
        location.extend(utf8_percent_encode(&entry.id, SEGMENT));
    }
    let mut response = found(entry);
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The document with the id of its path; one that carries another id is refused.
fn named(document: Document, id: &str) -> Result<Document, Problem> {
    match document.fields().get("id") {
        Some(Value::String(own)) if own == id => Ok(document),
        Some(_) => Err(Problem::invalid("the id in the body is not the id in the path")),
        None => Ok(document.with_id(id)?),
    }
}
