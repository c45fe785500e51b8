//! What a database does by itself: sweeping what expired, and going on with index builds.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, CollectionInfo, Operation};
use crate::partition::Partition;

use super::rules::{Call, Rules};

/// How often it looks; well under the 10 s within which expired documents are swept.
const EVERY: Duration = Duration::from_secs(1);

/// The thread that does it, until it is dropped.
#[derive(Debug)]
pub struct Maintenance {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    asked: Mutex<bool>,
    rung: Condvar,
}

impl Stop {
    /// Waits for the next turn; answers whether there is one.
    fn wait(&self) -> bool {
        let mut asked = self.asked.lock();
        if !*asked {
            self.rung.wait_for(&mut asked, EVERY);
        }
        !*asked
    }

    fn asked(&self) -> bool {
        *self.asked.lock()
    }
}

impl Maintenance {
    /// Starts looking after `partition`.
    pub fn start(partition: Arc<Partition<Rules>>) -> Result<Self> {
        let stop = Arc::new(Stop::default());
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("kappa-maintenance".into())
            .spawn(move || {
                while told.wait() {
                    if let Err(error) = turn(&partition, &told) {
                        // The next turn tries again; whatever is wrong, callers get it as their own answer.
                        tracing::debug!(%error, "maintenance was put off");
                    }
                }
            })
            .map_err(|error| Error::new(ErrorKind::Unavailable, "the system gave no thread").caused_by(error))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        *self.stop.asked.lock() = true;
        self.stop.rung.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn turn(partition: &Partition<Rules>, stop: &Stop) -> Result<()> {
    repeat(partition, stop, &Operation::Sweep)?;
    let call = Call { operation: Operation::Collections, idempotency_key: None };
    if let Answer::Collections(collections) = partition.read(&call)? {
        for CollectionInfo { name, building, .. } in collections {
            for index in building {
                let build = Operation::BuildIndex { collection: name.clone(), index };
                // A unique build that fails has told its declarer; other indexes go on.
                if let Err(error) = repeat(partition, stop, &build) {
                    tracing::warn!(%error, collection = name.as_str(), "an index could not be built");
                }
            }
        }
    }
    Ok(())
}

/// Runs `operation` until it has nothing more to do.
fn repeat(partition: &Partition<Rules>, stop: &Stop, operation: &Operation) -> Result<()> {
    while !stop.asked() {
        let call = Call { operation: operation.clone(), idempotency_key: None };
        if partition.submit(call, None).wait()? != Answer::More(true) {
            break;
        }
    }
    Ok(())
}
