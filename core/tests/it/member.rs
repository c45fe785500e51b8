//! One of several processes on one directory: this test binary again, which does what its parent says line by line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use kappa_core::env::Env;
use kappa_core::{ErrorKind, FeedStart, Kappa, Mode, Options};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::database::{self, THINGS};

const VARIABLE: &str = "KAPPA_TEST_MEMBER";
/// Longer than anything takes; only what hangs makes a test wait for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a member is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Open {
        directory: std::path::PathBuf,
        mode: String,
        deadline_ms: u64,
    },
    /// Creates a document with this tag, and no identifier of its own.
    Create(String),
    /// Creates documents with these tags, all at once.
    CreateAll(Vec<String>),
    Tags,
    Info,
    /// So many threads create documents one after another, with tags of their own, until told to stop.
    Load {
        name: String,
        threads: usize,
    },
    StopLoad,
    /// Tells every change behind the cursor, and goes on doing so.
    Follow(Option<String>),
    /// Forks; the child does as [`Forked`] says.
    Fork(Forked),
    Close,
}

/// What a forked child does, before it ends or is killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Forked {
    /// Never touches the database and lives until it is killed.
    Idles,
    /// Uses the handle of its parent, then ends as a process does that runs its destructors.
    Creates(String),
    /// Opens the directory by itself and creates a document, then ends.
    Opens { directory: std::path::PathBuf, tag: String },
}

/// What a member says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Told {
    Done,
    Failed { kind: String, text: String },
    Tags(Vec<String>),
    Info { role: String, owner_pid: u32 },
    Acked { tag: String, took_ms: u64 },
    Refused { tag: String, kind: String, text: String },
    Change { kind: String, tag: String, cursor: String },
    Forked { pid: i32, status: Option<i32> },
}

impl Told {
    /// What is said without being asked: of load and feed.
    fn is_news(&self) -> bool {
        matches!(self, Self::Acked { .. } | Self::Refused { .. } | Self::Change { .. })
    }
}

/// A member as its parent holds it.
pub struct Member {
    pub child: Child,
    input: ChildStdin,
    said: Arc<(Mutex<Said>, Condvar)>,
}

#[derive(Default)]
struct Said {
    answers: VecDeque<Told>,
    news: Vec<Told>,
    ended: bool,
}

impl Member {
    /// Starts a process that has nothing open yet.
    pub fn spawn() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["member::does_as_told", "--exact", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if std::env::var_os("KAPPA_TEST_LOUD").is_some() { Stdio::inherit() } else { Stdio::null() })
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let said = Arc::<(Mutex<Said>, Condvar)>::default();
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { break };
                let Some(told) = line.strip_prefix('@').and_then(|text| serde_json::from_str::<Told>(text).ok()) else {
                    continue;
                };
                let mut said = heard.0.lock().unwrap();
                if told.is_news() {
                    said.news.push(told);
                } else {
                    said.answers.push_back(told);
                }
                heard.1.notify_all();
            }
            heard.0.lock().unwrap().ended = true;
            heard.1.notify_all();
        });
        Self { child, input, said }
    }

    /// A process with the directory open.
    pub fn open(directory: &Path) -> Self {
        Self::open_as(directory, "auto", 10_000)
    }

    pub fn open_as(directory: &Path, mode: &str, deadline_ms: u64) -> Self {
        let mut member = Self::spawn();
        let told = member.ask(&Order::Open { directory: directory.to_owned(), mode: mode.to_owned(), deadline_ms });
        assert!(matches!(told, Told::Done), "{told:?}");
        member
    }

    pub fn tell(&mut self, order: &Order) {
        let line = serde_json::to_string(order).unwrap() + "\n";
        self.input.write_all(line.as_bytes()).and_then(|()| self.input.flush()).unwrap();
    }

    /// The answer to the oldest order that has none yet.
    pub fn hear(&self) -> Told {
        let said = self.said.0.lock().unwrap();
        let waited = self.said.1.wait_timeout_while(said, PATIENCE, |said| said.answers.is_empty() && !said.ended);
        let told = waited.unwrap().0.answers.pop_front();
        told.unwrap_or_else(|| panic!("member {} hangs or ended", self.pid()))
    }

    pub fn ask(&mut self, order: &Order) -> Told {
        self.tell(order);
        self.hear()
    }

    /// Does as told without a failure.
    pub fn must(&mut self, order: &Order) -> Told {
        let told = self.ask(order);
        assert!(!matches!(told, Told::Failed { .. }), "{order:?}: {told:?}");
        told
    }

    pub fn tags(&mut self) -> Vec<String> {
        match self.must(&Order::Tags) {
            Told::Tags(tags) => tags,
            other => panic!("{other:?}"),
        }
    }

    /// Role, and the owner's pid.
    pub fn info(&mut self) -> (String, u32) {
        match self.must(&Order::Info) {
            Told::Info { role, owner_pid } => (role, owner_pid),
            other => panic!("{other:?}"),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that load and feed said so far.
    pub fn news(&self) -> Vec<Told> {
        self.said.0.lock().unwrap().news.clone()
    }

    /// Waits until `enough` holds for what load and feed said.
    pub fn await_news(&self, enough: impl Fn(&[Told]) -> bool) -> Vec<Told> {
        let said = self.said.0.lock().unwrap();
        let waited = self.said.1.wait_timeout_while(said, PATIENCE, |said| !enough(&said.news) && !said.ended).unwrap();
        assert!(enough(&waited.0.news), "member {} hangs or ended: {:?}", self.pid(), waited.0.news.last());
        waited.0.news.clone()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Stops it, and waits until it stands.
    pub fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        let pid = rustix::process::Pid::from_child(&self.child);
        let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    /// Kills it as the system does when memory is short.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its input, at which it ends by itself; its exit code.
    pub fn end(self) -> Option<i32> {
        let Self { mut child, input, said } = self;
        drop(input);
        let waited = said.1.wait_timeout_while(said.0.lock().unwrap(), PATIENCE, |said| !said.ended).unwrap();
        assert!(waited.0.ended, "member {} does not end", child.id());
        drop(waited);
        child.wait().unwrap().code()
    }
}

fn say(told: &Told) {
    let text = format!("\n@{}\n", serde_json::to_string(told).unwrap());
    let mut out = std::io::stdout().lock();
    // A parent that is gone is the end of the member soon, through its input.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn failed(error: &kappa_core::Error) -> Told {
    Told::Failed { kind: error.kind().code().to_owned(), text: error.to_string() }
}

/// With no parent: an order that was read otherwise than it was written would make every test of this kind blame the
/// database. With one: the life of a member.
#[test]
fn does_as_told() {
    if std::env::var_os(VARIABLE).is_none() {
        let text = serde_json::to_string(&Order::Create("a".into())).unwrap();
        assert!(matches!(serde_json::from_str(&text).unwrap(), Order::Create(tag) if tag == "a"));
        return;
    }
    let mut state = State::default();
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line.unwrap()).unwrap();
        let told = state.follow(order).unwrap_or_else(|error| failed(&error));
        say(&told);
    }
    state.stop.store(true, Ordering::Relaxed);
}

#[derive(Default)]
struct State {
    kappa: Option<Kappa>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl State {
    fn follow(&mut self, order: Order) -> kappa_core::Result<Told> {
        if let Order::Open { directory, mode, deadline_ms } = order {
            let mode = match mode.as_str() {
                "owner" => Mode::Owner,
                "client" => Mode::Client,
                _ => Mode::Auto,
            };
            let deadline = Duration::from_millis(deadline_ms);
            let options = Options { mode, deadline, ..database::small() };
            self.kappa = Some(Kappa::open_with(directory, &options, &Env::default())?);
            return Ok(Told::Done);
        }
        let kappa = self.kappa.clone().expect("the first order opens");
        let things = kappa.collection(THINGS)?;
        match order {
            Order::Open { .. } => unreachable!("done above"),
            Order::Create(tag) => drop(things.create(json!({ "tag": tag })).wait()?),
            Order::CreateAll(tags) => {
                let pending: Vec<_> = tags.iter().map(|tag| things.create(json!({ "tag": tag }))).collect();
                for pending in pending {
                    pending.wait()?;
                }
            }
            Order::Tags => {
                let listed: kappa_core::Result<Vec<_>> = things.list().iter().collect();
                let tag = |entry: kappa_core::Entry| entry.document.fields()["tag"].as_str().unwrap().to_owned();
                return Ok(Told::Tags(listed?.into_iter().map(tag).collect()));
            }
            Order::Info => {
                let info = kappa.info()?;
                return Ok(Told::Info { role: info.role.to_owned(), owner_pid: info.owner_pid });
            }
            Order::Load { name, threads } => {
                for thread in 0..threads {
                    let (things, stop, name) = (things.clone(), Arc::clone(&self.stop), format!("{name}-{thread}"));
                    self.threads.push(std::thread::spawn(move || load(&things, &name, &stop)));
                }
            }
            Order::StopLoad => {
                self.stop.store(true, Ordering::Relaxed);
                for thread in self.threads.drain(..) {
                    thread.join().unwrap();
                }
            }
            Order::Follow(cursor) => {
                let mut feed = kappa.feed(cursor.map_or(FeedStart::Oldest, FeedStart::After)).wait()?;
                std::thread::spawn(move || {
                    while let Ok(Some(change)) = feed.next_within(PATIENCE) {
                        let tag = change.document.map(|document| document.fields()["tag"].as_str().unwrap().to_owned());
                        let kind = format!("{:?}", change.kind);
                        say(&Told::Change { kind, tag: tag.unwrap_or_default(), cursor: change.cursor });
                    }
                });
            }
            Order::Fork(forked) => return Ok(crate::forking::fork(&kappa, &forked)),
            Order::Close => kappa.close()?,
        }
        Ok(Told::Done)
    }
}

/// Creates one document after another, each with a tag of its own, and says how each ended.
fn load(things: &kappa_core::Collection, name: &str, stop: &AtomicBool) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let tag = format!("{name}-{n}");
        #[expect(clippy::disallowed_methods, reason = "how long a call takes is what is asked")]
        let began = Instant::now();
        let told = match things.create(json!({ "tag": tag })).wait() {
            #[expect(clippy::disallowed_methods, reason = "as above")]
            Ok(_) => Told::Acked { tag, took_ms: u64::try_from(began.elapsed().as_millis()).unwrap() },
            Err(error) => {
                let ended = error.kind() == ErrorKind::Closed;
                say(&Told::Refused { tag, kind: error.kind().code().to_owned(), text: error.to_string() });
                if ended {
                    return;
                }
                continue;
            }
        };
        say(&told);
    }
}
