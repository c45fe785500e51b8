//! A process that forks while it has a database open.
#![expect(unsafe_code, reason = "a fork without a program of its own is what is tested")]

use kappa_core::Kappa;
use serde_json::json;

use crate::database::THINGS;
use crate::member::{Forked, Told};

/// Forks; tells the child's number, and how it ended where it ends by itself: -1 for one that hangs.
pub fn fork(kappa: &Kappa, forked: &Forked) -> Told {
    // SAFETY: the child does what children of `os.fork` do: it goes on in this process's code with one thread. It ends
    // in `_exit` and so never returns into the test harness.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = match forked {
            Forked::Idles => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            Forked::Creates(tag) => {
                let created = kappa.collection(THINGS).and_then(|things| things.create(json!({ "tag": tag })).wait());
                i32::from(created.is_err())
            }
            Forked::Opens { directory, tag } => {
                let create = |kappa: Kappa| {
                    let things = kappa.collection(THINGS)?;
                    things.create(json!({ "tag": tag })).wait().and_then(|_| kappa.close())
                };
                i32::from(Kappa::open(directory).and_then(create).is_err())
            }
        };
        // The handle of the child is dropped as that of a program is which ends normally.
        drop(kappa.clone());
        // SAFETY: ends the child without what the harness would do at its end.
        unsafe { libc::_exit(code) };
    }
    let status = match forked {
        Forked::Idles => None,
        Forked::Creates(_) | Forked::Opens { .. } => Some(wait_for(pid)),
    };
    Told::Forked { pid, status }
}

fn wait_for(pid: i32) -> i32 {
    for _ in 0..600 {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if ended == pid {
            return if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -2 };
        }
        let nothing = std::sync::Mutex::new(());
        let held = nothing.lock().unwrap();
        drop(std::sync::Condvar::new().wait_timeout(held, std::time::Duration::from_millis(50)));
    }
    // SAFETY: the child of this process that hangs.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    -1
}
