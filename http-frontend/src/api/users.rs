//! `/v1/users`: a collection with rules of its own.

use serde::Serialize;
use utoipa::ToSchema;

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// Given by the caller, or a UUID v7.
    #[schema(nullable = false, example = "13AE742")]
    pub id: Option<String>,
    /// Not empty.
    #[schema(example = "John Doe")]
    pub name: Option<String>,
    /// An address of any valid domain.
    #[schema(example = "john.doe@gmail.com")]
    pub email: Option<String>,
    /// Users are spread over partitions by it.
    #[schema(example = 3)]
    pub group: Option<i64>,
}
