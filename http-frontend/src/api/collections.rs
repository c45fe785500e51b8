//! Collections themselves: which there are, and what each promises.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use kappa_core::{CollectionInfo, Definition, IndexDefinition, Operation};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::documents::{DocumentId, Target};
use crate::app::App;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::etag::{CONDITIONS, refuse};

/// One index.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// How queries name it; the field's name where none is given.
    pub name: Option<String>,
    /// The top-level field it orders by.
    pub field: String,
    /// Whether two documents may not share a value.
    #[serde(default)]
    pub unique: bool,
}

/// What a collection promises beyond keeping documents.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// Indexes that must exist; ones not named stay.
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// The field whose value decides the partition; the id where none is named.
    #[serde(default)]
    pub partition_field: Option<String>,
    /// How long a document lives from its creation or replacement on, in milliseconds, unless that write says otherwise;
    /// a patch keeps the end it had.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
}

/// A collection as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// How many documents it holds, expired ones that are not swept yet included.
    pub count: u64,
    /// What was declared.
    pub definition: Promise,
    /// Indexes that are still being built on existing documents.
    pub building: Vec<String>,
    /// Indexes that could not be built and were removed, each until its name is declared again or dropped.
    pub failed: Vec<FailedIndex>,
}

/// An index that could not be built on the documents that were there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FailedIndex {
    /// Its name.
    pub index: String,
    /// Why: `already_exists` for a value that two documents share and that had to be unique, `invalid_input` or
    /// `too_large` for one that cannot be indexed.
    pub code: String,
    /// The same for people; it names the documents.
    pub detail: String,
}

/// All collections.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Collections {
    /// By name.
    pub items: Vec<Collection>,
}

impl From<Promise> for Definition {
    fn from(promise: Promise) -> Self {
        let indexes = promise.indexes.into_iter().map(|index| IndexDefinition {
            name: index.name.unwrap_or_else(|| index.field.clone()),
            field: index.field,
            unique: index.unique,
        });
        Self { indexes: indexes.collect(), partition_field: promise.partition_field, ttl_ms: promise.ttl_ms }
    }
}

impl From<CollectionInfo> for Collection {
    fn from(info: CollectionInfo) -> Self {
        let index = |index: IndexDefinition| Index { name: Some(index.name), field: index.field, unique: index.unique };
        let definition = info.definition;
        Self {
            name: info.name.to_string(),
            count: info.count,
            definition: Promise {
                indexes: definition.indexes.into_iter().map(index).collect(),
                partition_field: definition.partition_field,
                ttl_ms: definition.ttl_ms,
            },
            building: info.building,
            failed: info.failed.into_iter().map(FailedIndex::from).collect(),
        }
    }
}

impl From<kappa_core::FailedIndex> for FailedIndex {
    fn from(failed: kappa_core::FailedIndex) -> Self {
        Self { index: failed.index, code: failed.code, detail: failed.detail }
    }
}

/// Lists collections.
///
/// Every collection that was declared or written.
#[utoipa::path(get, path = "/v1/collections", tag = "collections", responses((status = 200, description = "Every collection", body = Collections)))]
pub async fn collections(State(app): State<App>) -> Result<Json<Collections>, Problem> {
    let items = app.collections().await?.into_iter().map(Collection::from).collect();
    Ok(Json(Collections { items }))
}

/// Describes a collection.
#[utoipa::path(get, path = "/v1/definitions/{name}", tag = "collections",
    params(("name" = String, Path, description = "The collection")),
    responses((status = 200, description = "The collection as it stands", body = Collection), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn describe(State(app): State<App>, Target(collection): Target) -> Result<Json<Collection>, Problem> {
    let info = app.collection(Operation::Describe { collection }).await?;
    Ok(Json(info.into()))
}

/// Declares what a collection promises.
///
/// Idempotent and additive. An index on existing documents is built in the background; queries by it answer
/// `index_building` until it is ready. One that cannot be built is removed, and named in `failed`.
#[utoipa::path(put, path = "/v1/definitions/{name}", tag = "collections",
    params(("name" = String, Path, description = "The collection")), request_body = Promise,
    responses((status = 200, description = "The collection as it stands", body = Collection), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn declare(
    State(app): State<App>,
    Target(collection): Target,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Json<Collection>, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let promise: Promise = serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
    let info = app.collection(Operation::Declare { collection, definition: promise.into() }).await?;
    Ok(Json(info.into()))
}

/// Removes an index.
#[utoipa::path(delete, path = "/v1/definitions/{name}/indexes/{id}", tag = "collections",
    params(("name" = String, Path, description = "The collection"), ("id" = String, Path, description = "The index")),
    responses((status = 200, description = "The collection as it stands", body = Collection), (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn drop_index(
    State(app): State<App>,
    Target(collection): Target,
    DocumentId(index): DocumentId,
    headers: HeaderMap,
) -> Result<Json<Collection>, Problem> {
    refuse(&headers, &CONDITIONS)?;
    let info = app.collection(Operation::DropIndex { collection, index }).await?;
    Ok(Json(info.into()))
}
