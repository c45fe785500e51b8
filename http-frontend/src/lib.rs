//! The HTTP server over `kappa-core`: uniform routes under `/v1`, and the routes of earlier systems under `/api`.

mod api;
mod app;
mod body;
mod cli;
mod connection;
mod descriptors;
mod draws;
mod error;
mod etag;
mod guard;
mod mark;
mod options;
mod page;
mod progress;
mod router;
mod seed_routes;
mod server;
mod stall;
mod task_arguments;
mod worker;
mod workers;

pub use api::openapi::document as openapi_document;
pub use cli::run;
pub use options::ServerOptions;
pub use server::serve;
