//! What a forked child must not keep of its parent: descriptors that would hold a lock or a connection open.
#![expect(unsafe_code, reason = "a child can be told of its fork only through a handler of the C library")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

/// Descriptors of all databases of this process together; a few, and one for each client.
const SLOTS: usize = 4_096;
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
/// Takes the place of what a child must not keep.
static NOTHING: AtomicI32 = AtomicI32::new(FREE);
static ENGINE_STARTED: AtomicBool = AtomicBool::new(false);
static ENGINE_LOST: AtomicBool = AtomicBool::new(false);

/// Another value than at open: this is a child of the process that opened, and none of its threads are here.
pub fn generation() -> u64 {
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
        let Ok(nothing) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else { return };
        // SAFETY: the handler lives as long as the program, takes no argument, and calls nothing but what a child of
        // a process with threads may call.
        if unsafe { libc::pthread_atfork(None, None, Some(after_fork)) } == 0 {
            NOTHING.store(std::os::fd::IntoRawFd::into_raw_fd(nothing), Ordering::SeqCst);
        }
    });
    NOTHING.load(Ordering::SeqCst) != FREE
}

/// Runs in the child before anything else of it. Descriptors are replaced, not closed: the values that own them are
/// still here, and a number that was given out again would let them reach what is not theirs.
extern "C" fn after_fork() {
    GENERATION.fetch_add(1, Ordering::SeqCst);
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
