//! Progress for people who wait at a terminal; whoever reads standard error from a file or a journal gets none of it.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A wait that is over sooner shows nothing.
const SOON: Duration = Duration::from_secs(1);
/// How often a wait of unknown length shows that it goes on.
const TICK: Duration = Duration::from_millis(200);

/// How many of so many are done.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar on standard error, where that is a terminal.
    pub fn start() -> Self {
        Self::on(target(stderr().is_terminal()))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} tasks, {eta} left");
        Self(ProgressBar::with_draw_target(Some(0), target).with_style(style.expect("the template is sound")))
    }

    /// So many are done, of so many.
    pub fn show(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What `waiting` gives; how long it takes is shown where somebody watches and it is not there soon.
pub async fn wait<T>(what: String, waiting: impl Future<Output = T>) -> T {
    let mut waiting = std::pin::pin!(waiting);
    if let Ok(soon) = tokio::time::timeout(SOON, &mut waiting).await {
        return soon;
    }
    let style = ProgressStyle::with_template("{spinner} {msg}, for {elapsed} so far").expect("the template is sound");
    let spinner = ProgressBar::with_draw_target(None, target(stderr().is_terminal())).with_style(style);
    spinner.set_message(what);
    spinner.enable_steady_tick(TICK);
    let value = waiting.await;
    spinner.finish_and_clear();
    value
}

fn target(is_terminal: bool) -> ProgressDrawTarget {
    if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    /// A journal full of redrawn bars hides what operators look for.
    #[test]
    fn only_a_terminal_is_shown_anything() {
        assert!(Bar::on(target(false)).0.is_hidden());
        let terminal = InMemoryTerm::new(4, 60);
        let bar = Bar::on(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        bar.show(3, 9);
        bar.0.tick();
        assert!(terminal.contents().contains("3/9 tasks"), "{:?}", terminal.contents());
        drop(bar);
        assert_eq!(terminal.contents(), "", "nothing is left of it");
    }
}
