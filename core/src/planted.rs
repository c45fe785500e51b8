//! Bugs that a test switches on in its own thread, to see that what looks for them finds them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::LocalKey;

/// Which bug of a kind a thread runs with; declared with `thread_local!`.
pub type Switch<B> = LocalKey<Cell<Option<B>>>;

/// Whether this thread runs with the bug.
pub fn is<B: Copy + PartialEq>(switch: &'static Switch<B>, bug: B) -> bool {
    switch.get() == Some(bug)
}

/// Runs with the bug, or with none. Afterwards it is as before, also where `run` panics.
pub fn with<B: Copy + 'static, T>(switch: &'static Switch<B>, bug: Option<B>, run: impl FnOnce() -> T) -> T {
    struct Restored<B: Copy + 'static>(&'static Switch<B>, Option<B>);
    impl<B: Copy + 'static> Drop for Restored<B> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restored = Restored(switch, switch.replace(bug));
    run()
}

/// What the story finds broken; a panic counts.
pub fn found_by<T>(story: impl FnOnce() -> Result<T, String>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(story)) {
        Ok(Ok(_)) => None,
        Ok(Err(broken)) => Some(broken),
        Err(_) => Some("a panic".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static SWITCH: Cell<Option<u8>> = const { Cell::new(None) };
    }

    /// A bug that stayed switched on would be found by whatever runs next in the thread.
    #[test]
    fn a_bug_is_on_while_it_is_asked_for_and_not_longer() {
        let inner = || with(&SWITCH, Some(2), || is(&SWITCH, 2) && !is(&SWITCH, 1));
        assert!(with(&SWITCH, Some(1), || inner() && is(&SWITCH, 1)));
        let found = found_by(|| with(&SWITCH, Some(1), || -> Result<(), String> { panic!("planted") }));
        assert_eq!(found.as_deref(), Some("a panic"));
        assert!(!is(&SWITCH, 1));
        assert_eq!(found_by(|| Ok(())), None);
        assert_eq!(found_by(|| Err::<(), _>("broken".to_owned())).as_deref(), Some("broken"));
    }
}
