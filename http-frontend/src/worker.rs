//! `kappa-server worker`: works on tasks, in a directory or at a server, and answers nobody.

use std::time::Duration;

use clap::Args;
use kappa_core::{ErrorKind, Kappa, Result};
use tokio::time::{sleep, timeout};

use crate::options::ServerOptions;
use crate::progress;
use crate::workers;

/// Between two looks at how much is left, so that a busy database is not asked at each of its commits.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The longest time between two.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The arguments of a worker beside those of the server.
#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// The server whose tasks it runs, such as `http://127.0.0.1:8080`, in the place of a directory.
    #[arg(long, value_name = "URL", env = "KAPPA_URL", conflicts_with = "data")]
    pub url: Option<String>,
    /// What it sends to that server as `Authorization: Bearer`.
    #[arg(long, value_name = "TOKEN", env = "KAPPA_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A queue it claims from; several where it is repeated [default: tasks and execute, as the server does].
    #[arg(long = "queue", value_name = "NAME")]
    queues: Vec<String>,
    /// How many tasks of each queue it runs at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub concurrency: u16,
    /// How many seconds tasks have to end by themselves once it is told to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub grace: u64,
    /// Ends once nothing in its queues waits or runs.
    #[arg(long)]
    pub burst: bool,
}

impl WorkerArguments {
    /// The queues it claims from.
    pub fn queues(&self) -> Vec<String> {
        if self.queues.is_empty() { workers::own_queues() } else { self.queues.clone() }
    }
}

/// Works until `stop` is ready, or in a burst until nothing is left; then handlers have their time to end. Answers how many had not,
/// and were handed back.
///
/// # Errors
/// As [`workers::begin`]; what keeps a burst from seeing how much is left.
pub async fn work(
    kappa: &Kappa,
    queues: &[String],
    options: &ServerOptions,
    burst: bool,
    stop: impl Future<Output = ()>,
) -> Result<usize> {
    let (_, running) = workers::begin(kappa, queues, options)?;
    let ended = tokio::select! {
        biased;
        () = stop => Ok(()),
        ended = until_empty(kappa, queues), if burst => ended,
    };
    let unfinished = workers::stop(running).await;
    ended.map(|()| unfinished)
}

/// Ready once nothing in `queues` waits or runs; what is delayed may be.
async fn until_empty(kappa: &Kappa, queues: &[String]) -> Result<()> {
    let bar = progress::Bar::start();
    let mut most = 0;
    loop {
        // Before the look: what is committed between the two is not missed.
        let committed = kappa.tasks().committed();
        let (kappa, queues) = (kappa.clone(), queues.to_vec());
        let look = move || queues.iter().map(|queue| left(&kappa, queue)).sum::<Result<u64>>();
        let left = crate::app::blocking(look).await?;
        most = most.max(left);
        bar.show(most - left, most);
        if left == 0 {
            return Ok(());
        }
        if let Ok(committed) = timeout(LOOK_AGAIN, committed).await {
            committed?;
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// How many tasks of a queue wait or run; a queue that nobody has used yet has none.
fn left(kappa: &Kappa, queue: &str) -> Result<u64> {
    match kappa.tasks().queue(queue).wait() {
        Ok(info) => Ok(info.waiting + info.active),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
