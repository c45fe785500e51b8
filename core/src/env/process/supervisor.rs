//! What runs in the forked child: one process becomes the program, the other one watches over it.
//!
//! Everything here runs between a fork and the end of that process, in a copy of a process with threads. So it makes system
//! calls on its own stack and does nothing that could wait for a lock: no allocation, no formatting, no panic.
#![expect(unsafe_code, reason = "forking and signal masks have no safe interface")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr::null_mut;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::super::clock::{Clock, SystemClock};
use super::descriptors;
use super::{Limits, User};

/// Kinds of message: the program's number, which it tells itself,
pub const STARTED: u8 = 1;
/// and the last one, the supervisor's.
pub const ENDED: u8 = 2;
/// Bytes of each message: kind, reason, whether a signal ended it, whether something is left, number.
pub const MESSAGE_BYTES: usize = 8;

/// Orders to the supervisor.
pub const TERMINATE: u8 = b'T';
/// The output is over its limit.
pub const STOP_OUTPUT: u8 = b'O';

/// Reasons in the last message.
pub const BY_ITSELF: u8 = 0;
/// Asked to end.
pub const TERMINATED: u8 = 1;
/// Wrote too much.
pub const OUTPUT_LIMIT: u8 = 2;
/// Ran too long.
pub const TIME_LIMIT: u8 = 3;
/// Had too many processes.
pub const PROCESS_LIMIT: u8 = 4;
/// Nobody is there any more who wants to know.
const ABANDONED: u8 = 5;

/// How often processes are counted and our end is looked for.
const LOOK_MS: u64 = 50;
/// How often the program's end is looked for where the system cannot tell of it.
const BLIND_LOOK_MS: u64 = 10;
/// How long the report waits for processes that were killed to go.
const REAP_MS: u64 = 5_000;
/// How long the supervisor goes on after that.
const LAST_REAP_MS: u64 = 60_000;
/// Signals that a process may change something about.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// What the child needs to know, without a pointer into memory that it shares.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    control: RawFd,
    server: Option<Pid>,
    time_ms: u64,
    grace_ms: u64,
    processes: Option<u32>,
    user: Option<User>,
    limits: [(Resource, Option<u64>); 5],
}

impl Plan {
    /// A plan of the process that calls; the child talks over `control`.
    pub fn new(control: RawFd, limits: &Limits, user: Option<User>) -> Self {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            control,
            server: Some(rustix::process::getpid()),
            time_ms: ms(limits.time),
            grace_ms: ms(limits.grace),
            processes: limits.processes,
            user,
            limits: [
                (Resource::Cpu, limits.cpu_seconds),
                (Resource::As, limits.memory_bytes),
                (Resource::Nofile, limits.open_files),
                (Resource::Fsize, limits.file_bytes),
                // A core would fill the disk with what the program knew.
                (Resource::Core, Some(0)),
            ],
        }
    }
}

/// Makes two of this process: in the one that is to be the program this returns, the other one never comes back.
///
/// # Errors
/// Of the system; the caller then ends this process.
pub fn divide(plan: &Plan) -> io::Result<()> {
    hold_signals();
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let supervisor = rustix::process::getpid();
    // SAFETY: this process has one thread, and both sides do nothing but system calls.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => become_program(plan, supervisor),
        child => {
            if let Some(child) = Pid::from_raw(child) {
                supervise(plan, child);
            }
            // SAFETY: it ends this process without running anything of the one that it is a copy of.
            unsafe { libc::_exit(0) }
        }
    }
}

/// No handler of the process that was forked may run here, and the supervisor listens to nobody's signals.
fn hold_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` writes the whole set. A handler is set back to the default, which is no code of ours.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), null_mut());
        for signal in SIGNALS {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

fn release_signals() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` writes the whole set.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), null_mut());
    }
}

fn become_program(plan: &Plan, supervisor: Pid) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    for (resource, limit) in plan.limits {
        let Some(limit) = limit else { continue };
        let most = rustix::process::getrlimit(resource).maximum;
        let limit = most.map_or(limit, |most| most.min(limit));
        rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    #[cfg(target_os = "linux")]
    {
        if let Some(User { uid, gid }) = plan.user {
            rustix::thread::set_thread_groups(&[])?;
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(gid))?;
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid))?;
        }
        rustix::thread::set_no_new_privs(true)?;
        // Behind the change of user, which would undo it. The supervisor has one thread, so its end is that of the process.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    #[cfg(not(target_os = "linux"))]
    if plan.user.is_some() {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    // The end of the supervisor before the line above would have told nobody.
    if rustix::process::getppid() != Some(supervisor) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // Told from here, so that the program is known before it runs: its supervisor could be killed before its first step.
    // SAFETY: the descriptor is open until this process becomes the program.
    let control = unsafe { BorrowedFd::borrow_raw(plan.control) };
    tell(control, [STARTED, 0, 0, 0], rustix::process::getpid().as_raw_nonzero().get());
    descriptors::close_on_exec();
    release_signals();
    Ok(())
}

struct Watch<'a> {
    plan: &'a Plan,
    child: Pid,
    control: BorrowedFd<'a>,
    /// Tells of the program's end.
    ending: Option<OwnedFd>,
    connected: bool,
    reason: u8,
    terminated_ms: Option<u64>,
}

fn supervise(plan: &Plan, child: Pid) {
    descriptors::close_all_but(plan.control);
    // The end of the server's own group is not the supervisor's.
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(c"kappa-guard");
    #[cfg(target_os = "linux")]
    let ending = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()).ok();
    #[cfg(not(target_os = "linux"))]
    let ending = None;
    // SAFETY: the descriptor stays open as long as this process lives.
    let control = unsafe { BorrowedFd::borrow_raw(plan.control) };
    let mut watch = Watch { plan, child, control, ending, connected: true, reason: BY_ITSELF, terminated_ms: None };
    watch.until_its_end();
    watch.kill();
    let status = rustix::process::waitpid(Some(child), WaitOptions::empty());
    let left = !reap_all(REAP_MS);
    let (signalled, code) = match status {
        Ok(Some((_, status))) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (0, code),
            (None, Some(signal)) => (1, signal),
            (None, None) => (2, 0),
        },
        _ => (2, 0),
    };
    tell(control, [ENDED, watch.reason, signalled, u8::from(left)], code);
    if left {
        reap_all(LAST_REAP_MS);
    }
}

impl Watch<'_> {
    /// Returns when the program's first process has ended; its number stays taken until it is waited for, so that its
    /// group can be killed without meeting somebody else's.
    fn until_its_end(&mut self) {
        let started = SystemClock.boot_ms();
        while !self.has_ended() {
            let now = SystemClock.boot_ms();
            if self.reason == BY_ITSELF && now.saturating_sub(started) >= self.plan.time_ms {
                self.terminate(TIME_LIMIT);
            }
            if self.terminated_ms.is_some_and(|since| now.saturating_sub(since) >= self.plan.grace_ms) {
                self.kill();
            }
            if rustix::process::getppid() != self.plan.server {
                self.end_now(ABANDONED);
            }
            self.look_at_processes();
            self.wait(started, now);
        }
    }

    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(self.child), options) {
            Ok(status) => status.is_some(),
            Err(error) => error != Errno::INTR,
        }
    }

    /// Waits for an order, the program's end, or the next thing to do.
    fn wait(&mut self, started: u64, now: u64) {
        let mut until = now + if self.ending.is_some() { LOOK_MS } else { BLIND_LOOK_MS };
        if self.reason == BY_ITSELF {
            until = until.min(started.saturating_add(self.plan.time_ms));
        }
        let ms = until.saturating_sub(now).max(1);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(ms).unwrap_or(1) * 1_000_000 };
        let events = if self.connected { PollFlags::IN } else { PollFlags::empty() };
        let control = PollFd::from_borrowed_fd(self.control, events);
        let ready = if let Some(ending) = &self.ending {
            let ending = PollFd::new(ending, PollFlags::IN);
            // A connection that has ended is always ready: it must not be asked again, or this would spin.
            if self.connected { poll(&mut [control, ending], &timeout) } else { poll(&mut [ending], &timeout) }
        } else if self.connected {
            poll(&mut [control], &timeout)
        } else {
            poll(&mut [], &timeout)
        };
        if ready && self.connected {
            self.take_order();
        }
    }

    fn take_order(&mut self) {
        let mut order = [0; 1];
        match rustix::net::recv(self.control, &mut order, rustix::net::RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => {
                self.connected = false;
                self.end_now(ABANDONED);
            }
            Ok(_) if order == [TERMINATE] => self.terminate(TERMINATED),
            Ok(_) if order == [STOP_OUTPUT] => self.end_now(OUTPUT_LIMIT),
            Ok(_) | Err(_) => {}
        }
    }

    /// Asks the program to end; what is still there after the grace is killed.
    fn terminate(&mut self, reason: u8) {
        if self.reason == BY_ITSELF {
            self.reason = reason;
            self.terminated_ms = Some(SystemClock.boot_ms());
            self.signal(Signal::TERM);
            // One that is stopped would see the signal only when it goes on.
            self.signal(Signal::CONT);
        }
    }

    fn end_now(&mut self, reason: u8) {
        if self.reason == BY_ITSELF || reason == ABANDONED {
            self.reason = reason;
        }
        self.kill();
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// To the program's group, whole: what its processes fork meanwhile cannot escape it.
    fn signal(&self, signal: Signal) {
        // Before the child is a leader the group is not there yet; what is not there needs no signal.
        let _ = rustix::process::kill_process_group(self.child, signal);
        let _ = rustix::process::kill_process(self.child, signal);
    }

    fn look_at_processes(&mut self) {
        #[cfg(target_os = "linux")]
        {
            super::tree::reap_orphans(self.child);
            if let Some(most) = self.plan.processes
                && super::tree::more_than(most)
            {
                self.end_now(PROCESS_LIMIT);
                // Those that left the group: their parents may be in it, and gone with it.
                super::tree::kill_children();
            }
        }
    }
}

fn tell(control: BorrowedFd<'_>, head: [u8; 4], number: i32) {
    let [a, b, c, d] = number.to_le_bytes();
    let [kind, reason, signalled, left] = head;
    let message: [u8; MESSAGE_BYTES] = [kind, reason, signalled, left, a, b, c, d];
    // Nobody who does not listen needs it.
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    let _ = rustix::net::send(control, &message, flags);
}

fn poll(descriptors: &mut [PollFd<'_>], timeout: &Timespec) -> bool {
    rustix::event::poll(descriptors, Some(timeout)).is_ok_and(|ready| ready > 0)
}

/// Kills and awaits whatever descends from the program, for so long; answers whether nothing is left.
fn reap_all(limit_ms: u64) -> bool {
    let started = SystemClock.boot_ms();
    loop {
        // Children of what dies here become ours, and are killed in the next turn.
        #[cfg(target_os = "linux")]
        super::tree::kill_children();
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return true,
            Ok(Some(_)) => continue,
            Ok(None) | Err(_) => {}
        }
        if SystemClock.boot_ms().saturating_sub(started) >= limit_ms {
            return false;
        }
        poll(&mut [], &Timespec { tv_sec: 0, tv_nsec: 2_000_000 });
    }
}
