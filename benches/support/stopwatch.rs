//! The clock of the benches.

use std::time::{Duration, Instant};

/// Time since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// Sleeps until so many seconds have passed since the start: whoever watches takes no processor from those who run.
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    pub fn wait_until(&self, seconds: f64) {
        let left = seconds - self.seconds();
        if left > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(left));
        }
    }
}
