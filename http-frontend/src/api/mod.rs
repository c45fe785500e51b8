//! The uniform routes under `/v1`, the health of the server, and their description.

pub mod batch;
pub mod changes;
pub mod changes_page;
pub mod check;
pub mod collections;
pub mod documents;
pub mod health;
pub mod info;
pub mod openapi;
pub mod operations;
pub mod products;
pub mod randoms;
pub mod users;
