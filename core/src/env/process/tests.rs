//! Programs that misbehave in every known way, and a server that is killed while one runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::*;

/// Longer than anything takes; only what hangs makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
const VARIABLE: &str = "KAPPA_TEST_SUPERVISED";

fn limits() -> Limits {
    Limits {
        time: PATIENCE,
        grace: Duration::from_secs(30),
        cpu_seconds: None,
        memory_bytes: None,
        open_files: None,
        file_bytes: None,
        processes: None,
        output_bytes: 1 << 20,
    }
}

/// A directory, and a pipe with a name over which scripts tell what they do.
struct Place {
    directory: tempfile::TempDir,
    told: BufReader<File>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("told");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o622), 0).expect("a pipe");
        // Open for writing too, so that opening waits for nobody.
        let told = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("opened");
        Self { directory, told: BufReader::new(File::from(told)) }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn program(&self, script: &str) -> Program {
        let input = self.path().join("input");
        fs::write(&input, "the input").expect("written");
        Program {
            path: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            directory: self.path().to_owned(),
            input: File::open(input).expect("it is there"),
            limits: limits(),
            user: None,
        }
    }

    /// Whether a script has told something that was not read yet.
    fn has_told(&self) -> bool {
        !self.told.buffer().is_empty() || readable(self.told.get_ref(), Duration::ZERO)
    }

    /// The numbers of the next line that a script tells.
    fn numbers(&mut self) -> Vec<Pid> {
        assert!(self.has_told() || readable(self.told.get_ref(), PATIENCE), "the script tells nothing");
        let mut line = String::new();
        self.told.read_line(&mut line).expect("a line");
        line.split_whitespace().map(|number| Pid::from_raw(number.parse().expect("a number")).expect("a pid")).collect()
    }
}

fn readable(descriptor: impl AsFd, limit: Duration) -> bool {
    let timeout = Timespec { tv_sec: i64::try_from(limit.as_secs()).expect("short"), tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout)).expect("a poll") == 1
}

/// Waits for the end of a process that is not ours.
fn ends(pid: Pid) -> bool {
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(ending) => readable(&ending, PATIENCE),
        Err(_) => true,
    }
}

fn is_gone(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_err()
}

fn run(program: Program) -> Report {
    program.run(&mut || false).expect("it starts")
}

#[test]
fn a_program_gets_its_input_its_environment_and_its_directory() {
    let place = Place::new();
    let mut program = place.program("cat; echo; env | sort; pwd; echo careful >&2; exit 3");
    program.environment.push(("WORD".into(), "one two".into()));
    let report = run(program);
    let directory = place.path().display();
    let expected = format!("the input\nPATH=/usr/bin:/bin\nPWD={directory}\nWORD=one two\n{directory}\n");
    assert_eq!(String::from_utf8_lossy(&report.output), expected);
    assert_eq!((report.reason, report.ending), (Reason::Itself, Ending::Exited(3)));
    assert_eq!((report.errors.as_str(), report.left), ("careful\n", false));
}

/// A descriptor that slips through lets a program read the database, or keeps a lock after its owner's end.
#[test]
fn no_descriptor_reaches_a_program() {
    let place = Place::new();
    let slipped = rustix::io::dup(place.told.get_ref()).expect("without a flag that closes it");
    let report = run(place.program("ls /proc/self/fd"));
    drop(slipped);
    // The last one is the directory that `ls` reads.
    assert_eq!(String::from_utf8_lossy(&report.output), "0\n1\n2\n3\n");
}

/// The whole of an endless output would fill the memory; of a program that only ends when its pipe breaks, nobody
/// would ever hear again.
#[test]
fn an_endless_output_is_cut_and_its_writer_killed() {
    let place = Place::new();
    let mut program = place.program("trap '' PIPE TERM; while :; do echo yyyyyyyyyyyyyyyyyyyyyyyy; done");
    program.limits.output_bytes = 100_000;
    let report = run(program);
    assert_eq!((report.reason, report.ending), (Reason::OutputLimit, Ending::Signalled(9)));
    assert_eq!(report.output.len(), 100_000);
    let mut program = place.program("printf 12345");
    program.limits.output_bytes = 5;
    let report = run(program);
    assert_eq!((report.reason, report.output.as_slice()), (Reason::Itself, b"12345".as_slice()));
    let mut program = place.program("printf 123456");
    program.limits.output_bytes = 5;
    assert_eq!(run(program).reason, Reason::OutputLimit, "one byte too many is too many, also of one that has ended");
}

/// A program that fills the pipe of its errors waits for ever where nobody reads it.
#[test]
fn the_end_of_long_errors_is_kept() {
    let place = Place::new();
    let report = run(place.program("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; echo done"));
    assert_eq!(report.output, b"done\n");
    assert!(report.errors.ends_with("xxxthe end\n") && report.errors.len() <= 8 << 10, "{}", report.errors.len());
}

#[test]
fn one_that_is_asked_to_end_may_tidy_up() {
    let place = Place::new();
    let script = "trap 'echo tidy; exit 5' TERM; echo 1 > told; while :; do sleep 0.01; done";
    let report = place.program(script).run(&mut || place.has_told()).expect("it starts");
    assert_eq!((report.reason, report.ending), (Reason::Terminated, Ending::Exited(5)));
    assert_eq!(report.output, b"tidy\n");
}

#[test]
fn one_that_does_not_listen_is_killed_after_its_grace() {
    let place = Place::new();
    let mut program = place.program("trap '' TERM; echo 1 > told; while :; do sleep 1; done");
    program.limits.grace = Duration::from_millis(50);
    let report = program.run(&mut || place.has_told()).expect("it starts");
    assert_eq!((report.reason, report.ending), (Reason::Terminated, Ending::Signalled(9)));
}

/// One that was stopped sees no signal but the last one.
#[test]
fn one_that_runs_too_long_or_has_stopped_is_ended() {
    let place = Place::new();
    let mut program = place.program("kill -STOP $$");
    (program.limits.time, program.limits.grace) = (Duration::from_millis(200), Duration::from_millis(50));
    let report = run(program);
    assert_eq!((report.reason, report.left), (Reason::TimeLimit, false));
}

#[test]
fn more_processes_than_allowed_end_all_of_them() {
    let mut place = Place::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & all=\"$all $!\"; done; echo $all > told; wait";
    let mut program = place.program(script);
    program.limits.processes = Some(10);
    let report = run(program);
    assert_eq!((report.reason, report.ending), (Reason::ProcessLimit, Ending::Signalled(9)));
    if place.has_told() {
        let all = place.numbers();
        assert!(all.len() == 12 && all.iter().all(|pid| is_gone(*pid)), "{all:?}");
    }
    let mut program = place.program("sleep 0.3 & sleep 0.3 & wait");
    program.limits.processes = Some(3);
    assert_eq!(run(program).ending, Ending::Exited(0), "as many as allowed are allowed");
}

/// A group is not enough: a process can leave it, and its parent can end before anybody looks.
#[test]
fn what_left_the_group_is_found_and_killed() {
    let mut place = Place::new();
    let script = "(setsid sh -c 'sleep 1000 & echo $$ $! > told; wait' &); \
                  while ! [ -e gone ]; do sleep 0.01; done; echo done";
    let program = place.program(script);
    let gone = place.path().join("gone");
    let mut escaped = Vec::new();
    let report = program
        .run(&mut || {
            if escaped.is_empty() && place.has_told() {
                escaped = place.numbers();
                fs::write(&gone, "").expect("written");
            }
            false
        })
        .expect("it starts");
    assert_eq!((report.ending, report.left), (Ending::Exited(0), false));
    assert!(escaped.len() == 2 && escaped.iter().all(|pid| is_gone(*pid)), "{escaped:?}");
}

#[test]
fn memory_time_and_files_are_bounded_by_the_system() {
    let place = Place::new();
    let mut program = place.program("a=xxxxxxxxxxxxxxxx; while :; do a=$a$a; done");
    program.limits.memory_bytes = Some(64 << 20);
    let report = run(program);
    assert_eq!(report.reason, Reason::Itself);
    assert_ne!(report.ending, Ending::Exited(0), "{report:?}");
    let mut program = place.program("while :; do :; done");
    program.limits.cpu_seconds = Some(1);
    assert!(matches!(run(program).ending, Ending::Signalled(libc::SIGXCPU | libc::SIGKILL)));
    let mut program = place.program("head -c 100000 /dev/zero > large");
    program.limits.file_bytes = Some(4_096);
    assert_ne!(run(program).ending, Ending::Exited(0));
    assert!(fs::metadata(place.path().join("large")).expect("begun").len() <= 4_096);
    assert_eq!(run(place.program("kill -ABRT $$")).ending, Ending::Signalled(libc::SIGABRT));
}

#[test]
fn what_cannot_be_started_is_said_at_once() {
    let place = Place::new();
    let mut program = place.program("true");
    program.path = place.path().join("missing");
    assert_eq!(program.run(&mut || false).expect_err("there is none").kind(), io::ErrorKind::NotFound);
    let mut program = place.program("true");
    program.path = place.path().join("input");
    assert_eq!(program.run(&mut || false).expect_err("no program").kind(), io::ErrorKind::PermissionDenied);
}

/// Only root may give its rights away.
#[test]
fn a_program_has_the_rights_of_its_user() {
    let place = Place::new();
    let mut program = place.program("id -u; id -G");
    program.directory = PathBuf::from("/");
    program.user = Some(User { uid: 65_534, gid: 65_533 });
    match (rustix::process::geteuid().is_root(), program.run(&mut || false)) {
        (true, Ok(report)) => assert_eq!(String::from_utf8_lossy(&report.output), "65534\n65533\n"),
        (false, Err(error)) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        (root, other) => panic!("root={root} {other:?}"),
    }
}

/// Whatever kills a supervisor, its program does not go on unwatched.
#[test]
fn a_killed_supervisor_takes_its_program_with_it() {
    let mut place = Place::new();
    let program = place.program("sleep 1000 & echo $$ $! $PPID > told; wait");
    let mut all = Vec::new();
    let report = program
        .run(&mut || {
            if all.is_empty() && place.has_told() {
                all = place.numbers();
                rustix::process::kill_process(all[2], Signal::KILL).expect("the supervisor is there");
                // Nobody else can have killed it: whoever could is waiting here.
                assert!(ends(all[0]), "the system ends the program");
            }
            false
        })
        .expect("it starts");
    assert_eq!((report.reason, report.ending), (Reason::Lost, Ending::Unknown));
    assert!(all.len() == 3 && all.iter().all(|pid| ends(*pid)), "{all:?}");
}

/// The server of the next test: this test again, which runs a program until it is killed.
fn serve(directory: &str) -> ! {
    let script = "trap '' TERM HUP; (setsid sleep 1000 & echo $! > one); sleep 1000 & \
                  echo $$ $! $PPID $(cat one) > told; wait";
    let input = File::open("/dev/null").expect("it is there");
    let program = Program {
        path: PathBuf::from("/bin/sh"),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        directory: PathBuf::from(directory),
        input,
        limits: limits(),
        user: None,
    };
    panic!("it ended before it was killed: {:?}", program.run(&mut || false));
}

/// Killed without a warning, a server can tidy up nothing: what it ran would go on, unseen, beside the next attempt.
#[test]
fn a_killed_server_leaves_no_orphan() {
    if let Ok(directory) = std::env::var(VARIABLE) {
        serve(&directory);
    }
    let mut place = Place::new();
    let mut server = Command::new(std::env::current_exe().expect("this test"))
        .args(["env::process::tests::a_killed_server_leaves_no_orphan", "--exact", "--nocapture"])
        .env(VARIABLE, place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let all = place.numbers();
    server.kill().expect("it runs");
    server.wait().expect("it is dead");
    println!("program, its child, supervisor, escaped: {all:?}");
    assert!(all.len() == 4 && all.iter().all(|pid| ends(*pid)), "{all:?}");
}
