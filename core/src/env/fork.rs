//! What a forked child must not keep of its parent: descriptors that would hold a lock or a connection open.
#![expect(unsafe_code, reason = "a child can be told of its fork only through a handler of the C library")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

/// Descriptors of all databases of this process together; a few, and one for each client.
const SLOTS: usize = 4_096;
/// How often a descriptor is opened again because a fork came in between.
const MAX_TRIES: usize = 100;
const FREE: RawFd = -1;
const CLAIMED: RawFd = -2;

/// A descriptor and what it was opened for: a number that was closed and given out again is somebody else's.
struct Slot {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

static GUARDED: [Slot; SLOTS] =
    [const { Slot { fd: AtomicI32::new(FREE), device: AtomicU64::new(0), inode: AtomicU64::new(0) } }; SLOTS];
/// How many forks lie between this process and the first of its line that used Kappa.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// Forks of this process that were begun, and that are over.
static FORKS: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));
/// Takes the place of what a child must not keep.
static NOTHING: AtomicI32 = AtomicI32::new(FREE);
static ENGINE_STARTED: AtomicBool = AtomicBool::new(false);
static ENGINE_LOST: AtomicBool = AtomicBool::new(false);

/// Another value than at open: this is a child of the process that opened, and none of its threads are here.
pub fn generation() -> u64 {
    install();
    GENERATION.load(Ordering::Relaxed)
}

/// Notes that this process runs an engine, whose threads no child will have.
pub fn engine_started() {
    install();
    ENGINE_STARTED.store(true, Ordering::SeqCst);
}

/// Whether a process before this one ran an engine: its store keeps state for the whole process and would wait here
/// for threads that did not come along.
pub fn engine_lost() -> bool {
    ENGINE_LOST.load(Ordering::SeqCst)
}

/// Keeps one descriptor from forked children until it is dropped.
///
/// Must be dropped before the descriptor is closed.
#[derive(Debug)]
pub struct Guard {
    slot: usize,
    generation: u64,
}

impl Guard {
    /// Guards `descriptor`; none when there are too many, or the system cannot tell of forks.
    pub fn new(descriptor: impl AsFd) -> Option<Self> {
        if !install() {
            return None;
        }
        let descriptor = descriptor.as_fd();
        let stat = rustix::fs::fstat(descriptor).ok()?;
        let claim = |slot: &Slot| slot.fd.compare_exchange(FREE, CLAIMED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let slot = GUARDED.iter().position(claim)?;
        #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "some systems have other widths")]
        {
            GUARDED[slot].device.store(stat.st_dev as u64, Ordering::SeqCst);
            GUARDED[slot].inode.store(stat.st_ino as u64, Ordering::SeqCst);
        }
        GUARDED[slot].fd.store(descriptor.as_raw_fd(), Ordering::SeqCst);
        Some(Self { slot, generation: generation() })
    }
}

impl Guard {
    /// What `open` gives, kept from forked children from the beginning: a child that was born between the two has it
    /// without a guard, so it is opened again. Whatever locks or binds it must come later.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn opened<T: AsFd, E>(mut open: impl FnMut() -> Result<T, E>) -> Result<(T, Option<Self>), E> {
        install();
        let mut tries = 0;
        loop {
            tries += 1;
            let begun = FORKS.0.load(Ordering::SeqCst);
            let is_forking = FORKS.1.load(Ordering::SeqCst) != begun;
            if is_forking && tries < MAX_TRIES {
                std::thread::yield_now();
                continue;
            }
            let opened = open()?;
            let guard = Self::new(&opened);
            // A process that forks all the time gets on all the same.
            if FORKS.0.load(Ordering::SeqCst) == begun || tries >= MAX_TRIES {
                return Ok((opened, guard));
            }
        }
    }

    /// Guards what a library opened and keeps to itself: every descriptor of this process for the file at `path`.
    pub fn of_file(path: &Path) -> Vec<Self> {
        let Ok(path) = std::fs::canonicalize(path) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
        let found = entries.flatten().filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|open| open == path));
        let numbers = found.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
        // SAFETY: only asked what it stands for. Where it was closed meanwhile this fails, or guards another
        // descriptor for as long as that one is open.
        numbers.filter_map(|number| Self::new(unsafe { BorrowedFd::borrow_raw(number) })).collect()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // In a child the slot was given back by the fork and may be another's by now.
        if self.generation == generation() {
            GUARDED[self.slot].fd.store(FREE, Ordering::SeqCst);
        }
    }
}

fn install() -> bool {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handlers live as long as the program, take no argument, and call nothing but what a child of
        // a process with threads may call.
        let told = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(after_fork)) } == 0;
        let nothing = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        if let (true, Ok(nothing)) = (told, nothing) {
            NOTHING.store(std::os::fd::IntoRawFd::into_raw_fd(nothing), Ordering::SeqCst);
        }
    });
    NOTHING.load(Ordering::SeqCst) != FREE
}

extern "C" fn before_fork() {
    FORKS.0.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_parent() {
    FORKS.1.fetch_add(1, Ordering::SeqCst);
}

/// Runs in the child before anything else of it. Descriptors are replaced, not closed: the values that own them are
/// still here, and a number that was given out again would let them reach what is not theirs.
extern "C" fn after_fork() {
    GENERATION.fetch_add(1, Ordering::SeqCst);
    // Also those of other threads, which did not come along.
    FORKS.1.store(FORKS.0.load(Ordering::SeqCst), Ordering::SeqCst);
    if ENGINE_STARTED.swap(false, Ordering::SeqCst) {
        ENGINE_LOST.store(true, Ordering::SeqCst);
    }
    let nothing = NOTHING.load(Ordering::SeqCst);
    for slot in &GUARDED {
        let fd = slot.fd.swap(FREE, Ordering::SeqCst);
        if fd < 0 || nothing < 0 {
            continue;
        }
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: `fstat` writes the whole structure when it answers 0, and only then is it read.
        let is_it = unsafe { libc::fstat(fd, stat.as_mut_ptr()) == 0 } && {
            // SAFETY: as above.
            let stat = unsafe { stat.assume_init_ref() };
            #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "some systems have other widths")]
            let same = stat.st_dev as u64 == slot.device.load(Ordering::SeqCst)
                && stat.st_ino as u64 == slot.inode.load(Ordering::SeqCst);
            same
        };
        if is_it {
            // SAFETY: both are descriptors of this process. What `fd` stood for stays open in the parent alone.
            unsafe { replace(nothing, fd) };
        }
    }
}

/// # Safety
/// `fd` must be no descriptor whose owner relies on what it stands for.
unsafe fn replace(nothing: RawFd, fd: RawFd) {
    #[cfg(target_os = "linux")]
    // SAFETY: a system call on two numbers; it fails where one is no descriptor.
    unsafe {
        libc::dup3(nothing, fd, libc::O_CLOEXEC)
    };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above.
    unsafe {
        libc::dup2(nothing, fd)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that was born between the opening and the guard would hold the lock that is taken next, for as long as it
    /// lives: the directory could not be opened again when this process has ended.
    #[test]
    fn what_a_child_may_have_without_a_guard_is_opened_again() {
        let mut opened = 0;
        let open = || {
            opened += 1;
            if opened == 1 {
                before_fork();
                in_parent();
            }
            std::fs::File::open("/dev/null")
        };
        let (_file, guard) = Guard::opened(open).expect("it can be opened");
        assert!(guard.is_some());
        assert!(opened >= 2, "opened={opened}");
        let always = || {
            before_fork();
            in_parent();
            std::fs::File::open("/dev/null")
        };
        assert!(Guard::opened(always).is_ok(), "a process that forks all the time gets on");
    }
}
