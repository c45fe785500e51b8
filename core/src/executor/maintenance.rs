//! What a database does by itself: sweeping what expired, and going on with index builds.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::operation::{Answer, CollectionInfo, Operation};
use crate::partition::Partition;
use crate::task::operation::{TaskAnswer, TaskOperation};

use super::rules::{Call, Rules};

/// How often it looks; well under the 10 s within which expired documents are swept.
const EVERY: Duration = Duration::from_secs(1);
/// One turn in so many looks at everything that is due, not only at what became due since the one before.
const LOOK_AT_ALL: u64 = 60;
/// How seldom, while something keeps failing: often enough for whatever else there is to do.
const AT_MOST: Duration = Duration::from_secs(8);

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
    fn wait(&self, long: Duration) -> bool {
        let mut asked = self.asked.lock();
        if !*asked {
            self.rung.wait_for(&mut asked, long);
        }
        !*asked
    }

    fn asked(&self) -> bool {
        *self.asked.lock()
    }
}

impl Maintenance {
    /// Starts looking after `partition`, for the handle `instance`.
    pub fn start(partition: Arc<Partition<Rules>>, instance: u64) -> Result<Self> {
        let stop = Arc::new(Stop::default());
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("kappa-maintenance".into())
            .spawn(move || {
                let mut pause = EVERY;
                let mut queues = Queues::new(instance);
                while told.wait(pause) {
                    let turned = turn(&partition, &told);
                    pause = match turned.and(queues.turn(&partition, &told)) {
                        Ok(()) => EVERY,
                        Err(error) => {
                            // A later turn tries again; whatever is wrong, callers get it as their own answer.
                            tracing::debug!(%error, "maintenance was put off");
                            (2 * pause).min(AT_MOST)
                        }
                    };
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

/// Everything there is to do; what fails keeps nothing else from being done, and the first failure is answered.
fn turn(partition: &Partition<Rules>, stop: &Stop) -> Result<()> {
    let mut ended = repeat(partition, stop, &Operation::Sweep);
    let call = Call::once(Operation::Collections);
    if let Answer::Collections(collections) = partition.read(&call)? {
        for CollectionInfo { name, building, .. } in collections {
            for index in building {
                let build = Operation::BuildIndex { collection: name.clone(), index };
                // A build that cannot succeed is kept with its collection, where its declarer finds it.
                let outcome = repeat(partition, stop, &build).inspect_err(|error| {
                    tracing::warn!(%error, collection = name.as_str(), "an index could not be built");
                });
                ended = ended.and(outcome);
            }
        }
    }
    ended
}

/// Tells the queue whose leases are worth nothing: those of the owner before, whose workers went with it.
pub fn open_queues(partition: &Partition<Rules>, instance: u64) -> Result<()> {
    repeat(partition, &Stop::default(), &Operation::Task(TaskOperation::Opened { instance }))
}

/// What the queues need once a second.
#[derive(Debug)]
struct Queues {
    instance: u64,
    /// What was due by then is done.
    since: i64,
    turns: u64,
}

impl Queues {
    fn new(instance: u64) -> Self {
        Self { instance, since: i64::MIN, turns: 0 }
    }

    fn turn(&mut self, partition: &Partition<Rules>, stop: &Stop) -> Result<()> {
        // Leases and due times lie ahead when they are written, so nothing comes before what was seen; from time to time
        // everything is looked at all the same.
        let since = if self.turns.is_multiple_of(LOOK_AT_ALL) { i64::MIN } else { self.since };
        let now = partition.now();
        let call = Call::once(Operation::Task(TaskOperation::Overdue { since, instance: self.instance }));
        let answer = partition.read(&call)?;
        let Answer::Task(TaskAnswer::Overdue { queues, schedules, opened }) = answer else { return Ok(()) };
        if !opened {
            // Before any lease is ended: until then nobody knows which ones gain their time once more.
            open_queues(partition, self.instance)?;
        }
        let mut ended = Ok(());
        let queues = queues.into_iter().map(Some).chain(schedules.then_some(None));
        for queue in queues {
            let tick = Operation::Task(TaskOperation::Tick { queue, since });
            ended = ended.and(repeat(partition, stop, &tick));
        }
        if ended.is_ok() {
            self.turns += 1;
            self.since = now;
        }
        ended
    }
}

/// Runs `operation` until it has nothing more to do.
fn repeat(partition: &Partition<Rules>, stop: &Stop, operation: &Operation) -> Result<()> {
    while !stop.asked() {
        let call = Call::once(operation.clone());
        let answer = partition.submit(call, None).wait()?;
        if !matches!(answer, Answer::More(true) | Answer::Task(TaskAnswer::More(true))) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::memory::MemoryEngine;
    use crate::engine::{Engine, Group, Record, Write};
    use crate::env::{Env, ManualClock};
    use crate::operation::{CollectionName, Definition, IndexDefinition};
    use crate::partition::Limits;
    use crate::store::document::Document;
    use crate::task::json::Json;
    use crate::task::model::{NewTask, TaskState};

    fn run(partition: &Partition<Rules>, operation: Operation) -> Answer {
        partition.submit(Call::once(operation), None).wait().unwrap()
    }

    /// One entry that no sweep can read must not keep every index of the database from ever being ready.
    #[test]
    fn a_sweep_that_fails_does_not_stop_index_builds() {
        let engine = MemoryEngine::default();
        // The head of a dropped index's key, and nothing behind it.
        let damaged = Write::Put { key: Bytes::from_static(&[0x17]), value: Bytes::new() };
        let records = vec![Record { time: 1, events: Vec::new(), writes: vec![damaged] }];
        let _ = engine.commit(Group { first: engine.newest().0 + 1, records, ..Group::default() }).unwrap();
        let limits = Limits { intake_bytes: 1 << 20, deadline: Duration::from_secs(10) };
        let partition = Partition::start(Arc::new(engine), Rules, &Env::default(), limits).unwrap();
        let collection = CollectionName::new("things").unwrap();
        let document = Document::parse(r#"{"id":"a","n":1}"#).unwrap();
        run(&partition, Operation::Create { collection: collection.clone(), document, ttl_ms: None });
        let definition = Definition { indexes: vec![IndexDefinition::by("n")], ..Definition::default() };
        let declared = run(&partition, Operation::Declare { collection: collection.clone(), definition });
        let building = |answer: Answer| match answer {
            Answer::Collection(info) => info.building,
            other => panic!("{other:?}"),
        };
        assert_eq!(building(declared), ["n"]);
        let error = turn(&partition, &Stop::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(building(run(&partition, Operation::Describe { collection })).is_empty(), "the index is ready");
        partition.close(Duration::from_secs(10)).unwrap();
    }

    fn overdue(partition: &Partition<Rules>) -> (Vec<String>, bool) {
        let overdue = Operation::Task(TaskOperation::Overdue { since: i64::MIN, instance: 7 });
        match partition.read(&Call::once(overdue)).unwrap() {
            Answer::Task(TaskAnswer::Overdue { queues, opened, .. }) => (queues, opened),
            other => panic!("{other:?}"),
        }
    }

    /// What a turn could not do lies behind the next one's time: taken for done, it would wait for the turn that looks at
    /// everything. And the first queue may come long behind the opening: its owner has to be known from then on, or no lease
    /// would end when the next owner opens.
    #[test]
    fn a_turn_that_failed_is_made_up_for_by_the_next() {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let env = Env { clock: Arc::<ManualClock>::clone(&clock), ..Env::default() };
        let engine = Arc::new(MemoryEngine::shared());
        let limits = Limits { intake_bytes: 1 << 20, deadline: Duration::from_secs(10) };
        let partition = Partition::start(Arc::<MemoryEngine>::clone(&engine), Rules, &env, limits).unwrap();
        let new = NewTask { delay_ms: Some(5_000), ..NewTask::new("q", Json::null()) };
        let added = run(&partition, Operation::Task(TaskOperation::Enqueue(Box::new(new))));
        let Answer::Task(TaskAnswer::Enqueued(added)) = added else { panic!("{added:?}") };
        assert!(!overdue(&partition).1);
        let (mut queues, stop) = (Queues::new(7), Stop::default());
        queues.turn(&partition, &stop).unwrap();
        assert!(overdue(&partition).1, "the owner is known");
        // The queue's front, without which nothing that is due can wait.
        let key = Bytes::from_static(&[0x48, 0, 0]);
        let overwrite = |value: Option<Bytes>| {
            let key = key.clone();
            let writes = vec![value.map_or(Write::Delete { key: key.clone() }, |value| Write::Put { key, value })];
            let records = vec![Record { time: 1_700_000_000_000, events: Vec::new(), writes }];
            let _ = engine.commit(Group { first: engine.newest().0 + 1, records, ..Group::default() }).unwrap();
        };
        overwrite(Some(Bytes::from_static(b"?")));
        clock.advance(6_000);
        assert_eq!(queues.turn(&partition, &stop).unwrap_err().kind(), ErrorKind::Damaged);
        overwrite(None);
        clock.advance(5_000);
        queues.turn(&partition, &stop).unwrap();
        let Answer::Task(TaskAnswer::Task(Some(task))) =
            run(&partition, Operation::Task(TaskOperation::Get(added.task.id)))
        else {
            panic!("it is kept")
        };
        assert_eq!((task.state, overdue(&partition)), (TaskState::Waiting, (Vec::new(), true)));
        partition.close(Duration::from_secs(10)).unwrap();
    }
}
