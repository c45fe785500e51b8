//! The descendants of a supervisor, read from `/proc` without allocating.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::process::{Pid, Signal, WaitOptions};

use super::MAX_PROCESSES;

const OWN_CHILDREN: &CStr = c"/proc/thread-self/children";

/// Reaps children that were not ours from the start: their own parents left them.
pub fn reap_orphans(program: Pid) {
    each_own_child(&mut |child| {
        if child != program {
            let _ = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
        }
    });
}

/// Kills every process that is a child of this one; none of their numbers can be another's before they are awaited.
pub fn kill_children() {
    each_own_child(&mut |child| {
        let _ = rustix::process::kill_process(child, Signal::KILL);
    });
}

/// Whether more than `most` processes descend from this one.
pub fn more_than(most: u32) -> bool {
    let most = (most.min(MAX_PROCESSES)) as usize;
    let mut found = Found { pids: [None; MAX_PROCESSES as usize + 1], count: 0 };
    each_own_child(&mut |child| found.take(child));
    let mut next = 0;
    while let Some(Some(pid)) = found.pids.get(next).copied().filter(|_| next < found.count && found.count <= most) {
        each_child_of(pid, &mut |child| found.take(child));
        next += 1;
    }
    found.count > most
}

struct Found {
    pids: [Option<Pid>; MAX_PROCESSES as usize + 1],
    count: usize,
}

impl Found {
    fn take(&mut self, pid: Pid) {
        if let Some(place) = self.pids.get_mut(self.count) {
            *place = Some(pid);
            self.count += 1;
        }
    }
}

fn each_own_child(take: &mut dyn FnMut(Pid)) {
    each_number(CWD, OWN_CHILDREN, take);
}

/// Each thread has children of its own.
fn each_child_of(pid: Pid, take: &mut dyn FnMut(Pid)) {
    let mut path = Text::new();
    path.push(b"/proc/");
    path.push_number(pid.as_raw_nonzero().get().unsigned_abs());
    path.push(b"/task");
    let Some(path) = path.c_str() else { return };
    let Ok(threads) = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return;
    };
    let mut buffer = [MaybeUninit::uninit(); 1_024];
    let mut entries = RawDir::new(threads.as_fd(), &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        if !entry.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let mut path = Text::new();
        path.push(entry.file_name().to_bytes());
        path.push(b"/children");
        if let Some(path) = path.c_str() {
            each_number(threads.as_fd(), path, take);
        }
    }
}

/// The numbers in a file, which stand between blanks.
fn each_number(directory: BorrowedFd<'_>, path: &CStr, take: &mut dyn FnMut(Pid)) {
    let Ok(file) = rustix::fs::openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return };
    let mut buffer = [0; 512];
    let mut number: i32 = 0;
    while let Ok(read) = rustix::io::read(&file, &mut buffer)
        && read > 0
    {
        for byte in buffer.iter().take(read) {
            if byte.is_ascii_digit() {
                number = number.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
            } else if let Some(pid) = Pid::from_raw(std::mem::take(&mut number)) {
                take(pid);
            }
        }
    }
    if let Some(pid) = Pid::from_raw(number) {
        take(pid);
    }
}

/// A short path on the stack.
struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }

    fn push(&mut self, more: &[u8]) {
        for byte in more {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
            }
            self.length += 1;
        }
    }

    fn push_number(&mut self, number: u32) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }

    /// None where it is too long; a zero ends it.
    fn c_str(&self) -> Option<&CStr> {
        let bytes = (self.length < self.bytes.len()).then_some(&self.bytes)?;
        CStr::from_bytes_until_nul(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong path counts nothing, and a program could fork as it likes.
    #[test]
    fn paths_are_put_together_on_the_stack() {
        let mut text = Text::new();
        text.push(b"/proc/");
        text.push_number(4_194_304);
        text.push(b"/task");
        assert_eq!(text.c_str(), Some(c"/proc/4194304/task"));
        text.push(&[b'x'; 64]);
        assert_eq!(text.c_str(), None);
    }

    #[test]
    fn children_of_any_thread_are_found() {
        let mut child =
            std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
        let pid = Pid::from_child(&child);
        let mut found = Vec::new();
        each_child_of(rustix::process::getpid(), &mut |child| found.push(child));
        assert!(found.contains(&pid), "{pid:?} in {found:?}");
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
    }
}
