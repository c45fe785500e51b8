//! Limits of the server: plain data with defaults that need no change.

use std::path::PathBuf;
use std::time::Duration;

use kappa_core::runner::TaskPrograms;

/// Limits and times of one server. Every wait has an end.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOptions {
    /// More connections than this are closed at once, not queued.
    pub max_connections: usize,
    /// The longest body of a request: one document of 1 MiB and room for what surrounds it.
    pub body_bytes: usize,
    /// How long a request's head may take, and how long a connection may be idle.
    pub header_timeout: Duration,
    /// How long a body may stand still before the request is refused.
    pub body_timeout: Duration,
    /// How long a client may take no byte of an answer before its connection is closed.
    pub write_timeout: Duration,
    /// How long a request may take, change feeds and draws excepted.
    pub request_timeout: Duration,
    /// How long a draw of random numbers may take.
    pub draw_timeout: Duration,
    /// How many draws run at once; one more is refused.
    pub max_draws: usize,
    /// How often a silent change feed sends a comment.
    pub keep_alive: Duration,
    /// How long requests in flight may go on after the stop was asked for.
    pub stop_timeout: Duration,
    /// How many tasks of each of its own queues the server runs at the same time; 0 runs none.
    pub workers: usize,
    /// How long a task takes whose kind says nothing else.
    pub task_length: Duration,
    /// How long `/api/execute` waits for its task before it answers where the task is.
    pub execute_timeout: Duration,
    /// The directory that tasks import from and export to; none allows neither.
    pub task_files: Option<PathBuf>,
    /// Programs, containers and services that tasks may run.
    pub task_programs: TaskPrograms,
    /// Names that the `Host` header may carry beside the loopback ones; only asked where the server listens on loopback.
    pub allowed_hosts: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            body_bytes: (1 << 20) + (64 << 10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_mins(1),
            draw_timeout: Duration::from_mins(5),
            max_draws: std::thread::available_parallelism().map_or(1, usize::from),
            keep_alive: Duration::from_secs(15),
            stop_timeout: Duration::from_secs(10),
            workers: 8,
            task_length: Duration::from_secs(5),
            execute_timeout: Duration::from_secs(10),
            task_files: None,
            task_programs: TaskPrograms::default(),
            allowed_hosts: Vec::new(),
        }
    }
}
