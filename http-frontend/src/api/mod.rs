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
pub mod queues;
pub mod randoms;
pub mod schedules;
pub mod task_events;
pub mod task_schemas;
pub mod tasks;
pub mod users;
pub mod work;
