//! A fleet on one data directory: a Node cluster, Python processes and the server, whose owner is killed, or asked to
//! leave, again and again. Afterwards every acknowledged write must be there once, and the feed must be whole. Then two
//! languages work off each other's tasks, and workers are killed.
#![expect(clippy::disallowed_methods, reason = "processes are watched from outside, by the wall clock")]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const NODES: &str = "8";
const PYTHONS: usize = 3;
const PORT: &str = "18474";
/// Between two ends of an owner.
const PAUSE: Duration = Duration::from_secs(5);
/// From so many seconds on the fleet of workers has
const LONG: u64 = 60;
/// so many tasks,
const MANY_TASKS: u32 = 10_000;
/// and so many otherwise.
const TASKS: u32 = 1_000;
/// SIGKILL.
const KILL: i32 = 9;
/// How long a process may take to leave when it was asked to.
const FAREWELL: Duration = Duration::from_secs(30);

/// How an owner ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Asked,
}

/// Runs the fleet for `words[0]` seconds (10 where none is given) with owners that are killed, then with owners that
/// are asked to leave. The packages are those that `cargo xtask python` and `cargo xtask node` installed.
///
/// # Errors
///
/// A message for people: what is missing, or what was lost.
pub fn run(root: &Path, words: &[String]) -> Result<(), String> {
    let seconds = words.first().map_or(Ok(10), |word| word.parse().map_err(|_| format!("no seconds: {word}")))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target));
    let server = crate::server(root)?;
    for end in [End::Killed, End::Asked] {
        println!("== fleet: {NODES} Node, {} Python, 1 server; the owner is {end:?} for {seconds} s", PYTHONS + 2);
        Fleet::start(root, &target, &server, end)?.run(Duration::from_secs(seconds))?;
    }
    run_payloads(root, &target)?;
    run_tasks(root, &target, if seconds < LONG { TASKS } else { MANY_TASKS })
}

/// A Node and a Python process that work off each other's tasks.
fn run_payloads(root: &Path, target: &Path) -> Result<(), String> {
    println!("== payloads: 1 Node, 1 Python");
    run_scripts(root, target, "payloads", &[])
}

/// Node and Python processes that run tasks and are killed at random.
fn run_tasks(root: &Path, target: &Path, count: u32) -> Result<(), String> {
    println!("== fleet of workers: 2 Node, 2 Python; {count} tasks");
    run_scripts(root, target, "tasks", &[count.to_string()])
}

/// A Python script that starts the Node script of its name itself.
fn run_scripts(root: &Path, target: &Path, name: &str, words: &[String]) -> Result<(), String> {
    let place = target.join("fleet");
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let scripts = root.join("xtask/fleet");
    let node = target.join("node-project").join(name).with_extension("cjs");
    std::fs::copy(scripts.join(name).with_extension("cjs"), &node)
        .map_err(|error| format!("`cargo xtask node` comes first: {error}"))?;
    let mut command = Command::new(target.join("python-environment/bin/python"));
    command.arg("-B").arg(scripts.join(name).with_extension("py")).arg(&place).arg(node).args(words);
    let status = command.status().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

impl End {
    /// Whether a member that ended like this was ended, and did not fall.
    fn explains(self, status: ExitStatus) -> bool {
        match self {
            Self::Killed => status.signal() == Some(KILL),
            Self::Asked => status.success(),
        }
    }
}

struct Member {
    name: String,
    command: Command,
    child: Child,
}

struct Fleet {
    end: End,
    data: PathBuf,
    accounts: PathBuf,
    python: PathBuf,
    script: PathBuf,
    members: Vec<Member>,
}

impl Fleet {
    fn start(root: &Path, target: &Path, program: &Path, end: End) -> Result<Self, String> {
        let place = target.join("fleet");
        let _ = std::fs::remove_dir_all(&place);
        let (data, accounts) = (place.join("data"), place.join("accounts"));
        std::fs::create_dir_all(&accounts).map_err(|error| format!("{}: {error}", accounts.display()))?;
        let project = target.join("node-project");
        let node_script = project.join("fleet.cjs");
        std::fs::copy(root.join("xtask/fleet/worker.cjs"), &node_script)
            .map_err(|error| format!("`cargo xtask node` comes first: {error}"))?;
        let python = target.join("python-environment/bin/python");
        let script = root.join("xtask/fleet/worker.py");
        let mut fleet = Self { end, data, accounts, python, script, members: Vec::new() };
        let mut server = Command::new(program);
        server.arg("--data").arg(&fleet.data).args(["--port", PORT]);
        fleet.join("server", server)?;
        let mut cluster = Command::new("node");
        cluster.arg(node_script).arg(&fleet.data).arg(&fleet.accounts).arg(NODES).current_dir(&project);
        fleet.join("node", cluster)?;
        let follower = fleet.worker("follow", &fleet.data, &[]);
        fleet.join("follow", follower)?;
        for number in 0..PYTHONS {
            let worker = fleet.worker("write", &fleet.data, &[&format!("python-{number}")]);
            fleet.join(&format!("python-{number}"), worker)?;
        }
        let asker = fleet.worker("ask", Path::new(PORT), &["http"]);
        fleet.join("ask", asker)?;
        Ok(fleet)
    }

    fn worker(&self, role: &str, directory: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).arg(role).arg(directory).arg(&self.accounts).args(more);
        command
    }

    fn join(&mut self, name: &str, mut command: Command) -> Result<(), String> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        self.members.push(Member { name: name.to_owned(), command, child });
        Ok(())
    }

    fn run(mut self, time: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let pause = PAUSE.min(time / 4);
        let (mut next, mut ended) = (pause, 0);
        while begun.elapsed() < time {
            sleep(Duration::from_millis(50));
            self.start_again()?;
            // The last one ended has a pause to be started again in: somebody must be left who may own.
            if begun.elapsed() >= next && begun.elapsed() + pause <= time {
                next += pause;
                ended += usize::from(self.end_owner());
            }
        }
        println!("owners ended: {ended}");
        self.leave()?;
        let status = self.worker("check", &self.data, &[]).status().map_err(|error| format!("the check: {error}"))?;
        if ended > 0 && status.success() { Ok(()) } else { Err(format!("the fleet, owners ended: {ended}, {status}")) }
    }

    /// Members that ended are started again, as their keepers would; the cluster looks after its own.
    fn start_again(&mut self) -> Result<(), String> {
        for member in &mut self.members {
            let Ok(Some(status)) = member.child.try_wait() else { continue };
            if !self.end.explains(status) {
                return Err(format!("{} ended by itself: {status}", member.name));
            }
            member.child = member.command.spawn().map_err(|error| format!("{}: {error}", member.name))?;
        }
        Ok(())
    }

    /// Whether somebody owned the directory and was ended.
    fn end_owner(&self) -> bool {
        let Ok(text) = std::fs::read_to_string(self.data.join("LOCK")) else { return false };
        let Some(pid) = text.lines().next().filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())) else {
            return false;
        };
        signal(if self.end == End::Killed { "-KILL" } else { "-TERM" }, pid)
    }

    /// Everybody leaves: the server last, so that the follower has somebody to hear the rest from.
    fn leave(&mut self) -> Result<(), String> {
        let stages: [fn(&str) -> bool; 3] =
            [|name| name != "follow" && name != "server", |name| name == "follow", |name| name == "server"];
        for of_stage in stages {
            let leaving = || self.members.iter().filter(|member| of_stage(&member.name));
            for member in leaving() {
                signal("-TERM", &member.child.id().to_string());
            }
            let end = self.end;
            for member in self.members.iter_mut().filter(|member| of_stage(&member.name)) {
                wait(member, end)?;
            }
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

fn wait(member: &mut Member, end: End) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match member.child.try_wait() {
            // The last owner may have been killed a moment ago.
            Ok(Some(status)) if status.success() || end.explains(status) => return Ok(()),
            Ok(Some(status)) => return Err(format!("{} ended with {status}", member.name)),
            _ if begun.elapsed() > FAREWELL => {
                let _ = member.child.kill();
                return Err(format!("{} hangs at its end", member.name));
            }
            _ => sleep(Duration::from_millis(20)),
        }
    }
}

fn signal(name: &str, pid: &str) -> bool {
    Command::new("kill").args([name, pid]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
