//! `/v1/products`: a collection with rules of its own.

use serde::Serialize;
use utoipa::ToSchema;

/// A product.
#[derive(Debug, Serialize, ToSchema)]
pub struct Product {
    /// Given by the caller, or a UUID v7.
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// Not empty.
    #[schema(example = "Teclado")]
    pub title: String,
    /// Zero or more; digits are kept as they came.
    #[schema(minimum = 0, example = 345.5)]
    pub price: f64,
    /// An http, https or ftp address.
    #[schema(example = "https://example.com/teclado.png")]
    pub thumbnail: Option<String>,
}
