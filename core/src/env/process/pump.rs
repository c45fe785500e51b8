//! Reading what a program writes while it runs, up to its limits, and what its supervisor tells.

use std::io;
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::clock::{Clock, SystemClock};
use super::supervisor::{
    ENDED, MESSAGE_BYTES, OUTPUT_LIMIT, PROCESS_LIMIT, STARTED, STOP_OUTPUT, TERMINATE, TERMINATED, TIME_LIMIT,
};
use super::{Ending, Limits, Reason, Report, Running};

/// How often somebody is asked whether the program should end.
const LOOK: Duration = Duration::from_millis(50);
/// What is kept of the standard error.
const ERROR_BYTES: usize = 8 << 10;
/// Pipes that are held open by a process that cannot be killed are left alone after this.
const DRAIN_MS: u64 = 1_000;
/// How much longer than its limits a supervisor may take.
const SLACK_MS: u64 = 15_000;

struct Pump {
    running: Running,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
    most: usize,
    report: Report,
    /// What the supervisor has told of a message.
    told: Vec<u8>,
    program: Option<i32>,
    /// The supervisor's last message has come, or no more can.
    ended_ms: Option<u64>,
}

/// Runs a program to its end; see [`super::Program::run`].
pub fn run(mut running: Running, limits: &Limits, cancelled: &mut dyn FnMut() -> bool) -> io::Result<Report> {
    let (output, errors) = (running.child.stdout.take(), running.child.stderr.take());
    for pipe in [output.as_ref().map(AsFd::as_fd), errors.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
        rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
    }
    let report = Report {
        reason: Reason::Lost,
        ending: Ending::Unknown,
        output: Vec::new(),
        errors: String::new(),
        left: false,
    };
    let most = limits.output_bytes;
    let mut pump = Pump { running, output, errors, most, report, told: Vec::new(), program: None, ended_ms: None };
    pump.until_its_end(limits, cancelled)?;
    Ok(pump.finish())
}

impl Pump {
    fn until_its_end(&mut self, limits: &Limits, cancelled: &mut dyn FnMut() -> bool) -> io::Result<()> {
        let bound = u64::try_from((limits.time + limits.grace).as_millis()).unwrap_or(u64::MAX);
        let started = SystemClock.boot_ms();
        let mut asked = false;
        let mut tail = Vec::new();
        loop {
            let now = SystemClock.boot_ms();
            let drained = self.output.is_none() && self.errors.is_none();
            let waited = self.ended_ms.is_some_and(|ended| now.saturating_sub(ended) >= DRAIN_MS);
            if self.ended_ms.is_some() && (drained || waited) {
                break;
            }
            if now.saturating_sub(started) >= bound.saturating_add(SLACK_MS) {
                self.report.left = true;
                break;
            }
            if !asked && cancelled() {
                asked = true;
                self.order(TERMINATE);
            }
            self.wait()?;
            self.read_messages();
            self.read_output();
            read_errors(&mut self.errors, &mut tail);
        }
        tail.drain(..tail.len().saturating_sub(ERROR_BYTES));
        self.report.errors = String::from_utf8_lossy(&tail).into_owned();
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let mut polled = Vec::with_capacity(3);
        if self.ended_ms.is_none() {
            polled.push(PollFd::new(&self.running.control, PollFlags::IN));
        }
        if let Some(output) = &self.output {
            polled.push(PollFd::new(output, PollFlags::IN));
        }
        if let Some(errors) = &self.errors {
            polled.push(PollFd::new(errors, PollFlags::IN));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK.subsec_nanos()) };
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// One that cannot be given finds a supervisor that is ending anyway.
    fn order(&self, order: u8) {
        let _ = rustix::net::send(&self.running.control, &[order], rustix::net::SendFlags::NOSIGNAL);
    }

    fn read_messages(&mut self) {
        let mut buffer = [0; 2 * MESSAGE_BYTES];
        while self.ended_ms.is_none() {
            match rustix::io::read(&self.running.control, &mut buffer) {
                Ok(0) => self.ended_ms = Some(SystemClock.boot_ms()),
                Ok(read) => self.told.extend_from_slice(&buffer[..read]),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => self.ended_ms = Some(SystemClock.boot_ms()),
            }
            while let Some((message, _)) = self.told.split_first_chunk::<MESSAGE_BYTES>() {
                let message = *message;
                self.told.drain(..MESSAGE_BYTES);
                self.take(message);
            }
        }
    }

    fn take(&mut self, message: [u8; MESSAGE_BYTES]) {
        let [kind, reason, signalled, left, number @ ..] = message;
        let number = i32::from_le_bytes(number);
        match kind {
            STARTED => self.program = Some(number),
            ENDED => {
                self.report.reason = match reason {
                    TERMINATED => Reason::Terminated,
                    OUTPUT_LIMIT => Reason::OutputLimit,
                    TIME_LIMIT => Reason::TimeLimit,
                    PROCESS_LIMIT => Reason::ProcessLimit,
                    _ => Reason::Itself,
                };
                self.report.ending = match signalled {
                    0 => Ending::Exited(number),
                    1 => Ending::Signalled(number),
                    _ => Ending::Unknown,
                };
                self.report.left = left != 0;
                self.ended_ms = Some(SystemClock.boot_ms());
            }
            _ => {}
        }
    }

    fn read_output(&mut self) {
        let most = self.most;
        let room = (most + 1).saturating_sub(self.report.output.len());
        let over = room == 0;
        // What is over the limit is read all the same, so that whoever writes it sees its kill and not a full pipe.
        let mut thrown_away = Vec::new();
        let into = if over { &mut thrown_away } else { &mut self.report.output };
        let open = self.output.as_ref().is_some_and(|output| read_some(output, into));
        if !open {
            self.output = None;
        }
        if !over && self.report.output.len() > most {
            self.report.output.truncate(most + 1);
            self.order(STOP_OUTPUT);
        }
    }

    fn finish(mut self) -> Report {
        if self.report.output.len() > self.most {
            self.report.output.truncate(self.most);
            self.report.reason = Reason::OutputLimit;
        }
        let Running { mut child, control, guard } = self.running;
        // It ends now, whatever it was doing: nobody waits for it any more.
        drop((guard, control));
        if self.report.reason == Reason::Lost {
            kill_group(self.program);
        }
        if !self.report.left {
            // It has said its last word, or is gone.
            let _ = child.wait();
            return self.report;
        }
        let awaited = std::thread::Builder::new().name("kappa-reap".to_owned()).spawn(move || {
            let _ = child.wait();
        });
        if let Err(error) = awaited {
            tracing::warn!(%error, "the supervisor of a program is left as a zombie");
        }
        self.report
    }
}

/// Without its supervisor the program itself is killed by the system, but not what it started. A number is not given to
/// anybody else while a group of it is left.
fn kill_group(program: Option<i32>) {
    if let Some(program) = program.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(program, rustix::process::Signal::KILL);
    }
}

/// Reads what is there, some at a time; false at the end.
fn read_some(pipe: impl AsFd, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 << 10];
    match rustix::io::read(pipe, &mut buffer) {
        Ok(0) => false,
        Ok(read) => {
            into.extend_from_slice(&buffer[..read]);
            true
        }
        Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}

fn read_errors(errors: &mut Option<ChildStderr>, tail: &mut Vec<u8>) {
    if let Some(pipe) = errors
        && !read_some(pipe, tail)
    {
        *errors = None;
    }
    if tail.len() > 2 * ERROR_BYTES {
        tail.drain(..tail.len() - ERROR_BYTES);
    }
}
