//! The process that gets killed: this test binary again, told by a variable what to do.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kappa_core::env::files::{File, Files, OpenMode, Space, SystemFiles};
use kappa_core::env::{Entropy, Env, SystemClock, SystemEntropy};
use kappa_core::{Collection, Durability, Entry, ErrorKind, Feed, FeedStart, Kappa, Options, ViewKind};
use serde::{Deserialize, Serialize};

use crate::database;
use crate::oracle::Outcome;
use crate::plan::{Plan, Step};

const VARIABLE: &str = "KAPPA_TEST_WORKER";
/// Writers of one worker.
pub const WRITERS: u64 = 3;

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    pub directory: PathBuf,
    pub seed: u64,
    pub life: u64,
    pub filling: usize,
    pub memory_view: bool,
    pub written: bool,
    /// After so many steps of each writer the database is closed; without it they write until they are killed.
    pub close_after: Option<usize>,
    /// Where the change feed goes on; from its start without one.
    pub cursor: Option<String>,
}

/// One line of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Line {
    /// It is about to open the directory.
    Opening,
    /// It is about to close it.
    Closing,
    /// It is inside open or close and about to do this to a file.
    Touches(String),
    /// It has the directory open, and this is in it.
    Holds(Content),
    /// A writer's next step was answered.
    Answered { writer: u64, outcome: String, versions: Vec<(String, String)> },
}

/// Everything that can be read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Content {
    /// Identifier, version and text, in order of creation.
    pub documents: Vec<(String, String, String)>,
    pub by_n: Vec<String>,
    pub by_u: Vec<String>,
    pub by_n_backward: Vec<String>,
    pub count: u64,
    /// Kind, identifier, version and text of each change behind the cursor.
    pub changes: Vec<(String, String, String, Option<String>)>,
    pub cursor: String,
    pub recovery: Vec<String>,
}

impl Orders {
    /// Orders for the first life of a new directory.
    pub fn new(directory: &Path, seed: u64, filling: usize) -> Self {
        let directory = directory.to_path_buf();
        Self { directory, seed, life: 0, filling, memory_view: false, written: false, close_after: None, cursor: None }
    }

    /// Starts a worker that follows these orders; its lines come through its standard output.
    pub fn spawn(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["worker::follows_its_orders", "--exact", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, serde_json::to_string(self).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The settings that the directory is opened with.
    pub fn options(&self) -> Options {
        Options {
            view: if self.memory_view { ViewKind::Memory } else { ViewKind::Sled },
            durability: if self.written { Durability::Written } else { Durability::Synced },
            ..database::small()
        }
    }
}

/// The line that `text` holds; none in what the harness itself prints, or in one cut short by a kill.
pub fn read_line(text: &str) -> Option<Line> {
    serde_json::from_str(text.strip_prefix('@')?).ok()
}

/// Says something to the parent; nobody to hear it is the end of the worker.
fn say(line: &Line) {
    let text = format!("\n@{}\n", serde_json::to_string(line).unwrap());
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

/// With no orders: a plan that a child followed otherwise than its parent would make every kill test blame
/// the database. With orders: the life of a worker, up to its kill.
#[test]
fn follows_its_orders() {
    let Ok(orders) = std::env::var(VARIABLE) else {
        let texts = |seed| format!("{:?}", Plan::new(seed, 1, 2, 64).take(200).collect::<Vec<_>>());
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    say(&Line::Opening);
    let files = Arc::new(TellingFiles { tells: AtomicBool::new(true) });
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let env = Env { clock: Arc::new(SystemClock), entropy, files: Arc::clone(&files) as Arc<dyn Files> };
    let kappa = Kappa::open_with(&orders.directory, &orders.options(), &env).unwrap();
    files.tells.store(false, Ordering::Relaxed);
    let things = database::things(&kappa);
    say(&Line::Holds(content(&kappa, &things, orders.cursor.clone())));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (things, orders, kappa) = (things.clone(), &orders, &kappa);
            scope.spawn(move || {
                let plan = Plan::new(orders.seed, orders.life, writer, orders.filling);
                for step in plan.take(orders.close_after.unwrap_or(usize::MAX)) {
                    let (outcome, versions) = run(kappa, &things, &step);
                    say(&Line::Answered { writer, outcome: format!("{outcome:?}"), versions });
                }
            });
        }
    });
    files.tells.store(true, Ordering::Relaxed);
    say(&Line::Closing);
    kappa.close().unwrap();
}

/// Does one step; answers how it ended and what versions it made.
pub fn run(kappa: &Kappa, things: &Collection, step: &Step) -> (Outcome, Vec<(String, String)>) {
    let written = |entry: Entry| (Outcome::Written, vec![(entry.id.clone(), entry.version.to_string())]);
    let answer = match step {
        Step::Create(map) => things.create(map).wait().map(written),
        Step::Replace(map) => things.replace(map["id"].as_str().unwrap(), map).wait().map(written),
        Step::Update(id, patch) => things.update(id, patch).wait().map(written),
        Step::Delete(id) => things
            .delete(id)
            .wait()
            .map(|deleted| (if deleted { Outcome::Deleted } else { Outcome::NothingToDelete }, Vec::new())),
        Step::Batch(steps) => run_batch(kappa, things.name().as_str(), steps),
    };
    match answer {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::NotFound => (Outcome::NotFound, Vec::new()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => (Outcome::AlreadyExists, Vec::new()),
        Err(error) => panic!("no step may fail so: {error}"),
    }
}

type Answered = kappa_core::Result<(Outcome, Vec<(String, String)>)>;

fn run_batch(kappa: &Kappa, collection: &str, steps: &[Step]) -> Answered {
    let mut batch = kappa.batch();
    for step in steps {
        batch = match step {
            Step::Create(map) => batch.create(collection, map),
            Step::Replace(map) => batch.replace(collection, map["id"].as_str().unwrap(), map),
            Step::Update(id, patch) => batch.update(collection, id, patch),
            Step::Delete(id) => batch.delete(collection, id),
            Step::Batch(_) => unreachable!("batches are not nested"),
        };
    }
    let mut versions = Vec::new();
    for answer in batch.commit().wait()? {
        if let kappa_core::Answer::Written(entry) = answer {
            versions.push((entry.id, entry.version.to_string()));
        }
    }
    Ok((Outcome::Batch, versions))
}

/// Reads everything, each way there is.
pub fn content(kappa: &Kappa, things: &Collection, cursor: Option<String>) -> Content {
    let ids = |list: kappa_core::List| list.page_size(7).iter().map(|entry| entry.unwrap().id).collect::<Vec<_>>();
    let listed: Vec<Entry> = things.list().iter().map(Result::unwrap).collect();
    for entry in &listed {
        assert_eq!(things.entry(&entry.id).wait().unwrap().as_ref(), Some(entry), "a list and a read differ");
    }
    let mut feed = kappa.feed(cursor.map_or(FeedStart::Oldest, FeedStart::After)).wait().unwrap();
    let changes = read_changes(&mut feed);
    Content {
        documents: listed
            .into_iter()
            .map(|entry| (entry.id, entry.version.to_string(), entry.document.text().to_owned()))
            .collect(),
        by_n: ids(things.list().by("n")),
        by_n_backward: ids(things.list().by("n").backward()),
        by_u: ids(things.list().by("u")),
        count: things.count().wait().unwrap(),
        changes,
        cursor: feed.cursor().to_owned(),
        recovery: kappa.info().unwrap().recovery,
    }
}

/// Every change there is by now: kind, identifier, version and text.
pub fn read_changes(feed: &mut Feed) -> Vec<(String, String, String, Option<String>)> {
    let mut changes = Vec::new();
    while let Some(change) = feed.next_within(std::time::Duration::ZERO).unwrap() {
        let kind = format!("{:?}", change.kind).to_lowercase();
        changes.push((kind, change.id, change.version.to_string(), change.document.map(|d| d.text().to_owned())));
    }
    changes
}

/// The system's files, told of one by one while the directory is being opened or closed.
#[derive(Debug)]
struct TellingFiles {
    tells: AtomicBool,
}

impl TellingFiles {
    fn tell(&self, what: &str, path: &Path) {
        if self.tells.load(Ordering::Relaxed) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            say(&Line::Touches(format!("{what} {name}")));
        }
    }
}

impl Files for TellingFiles {
    fn create_dir_all(&self, dir: &Path) -> std::io::Result<()> {
        self.tell("make", dir);
        SystemFiles.create_dir_all(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<Arc<dyn File>> {
        self.tell("open", path);
        SystemFiles.open(path, mode)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.tell("list", dir);
        SystemFiles.list(dir)
    }

    fn exists(&self, path: &Path) -> std::io::Result<bool> {
        SystemFiles.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.tell("rename", from);
        SystemFiles.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> std::io::Result<()> {
        self.tell("remove", path);
        SystemFiles.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> std::io::Result<()> {
        self.tell("remove", dir);
        SystemFiles.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.tell("sync", dir);
        SystemFiles.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> std::io::Result<Space> {
        SystemFiles.space(dir)
    }
}
