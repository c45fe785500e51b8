//! The parallel histogram of random numbers.
//!
//! [`histogram`] answers how often each value of a range came up among `count` independent uniform draws. A request is
//! described by [`HistogramRequest`], watched and stopped through [`Control`], and answered by [`Histogram`].

mod control;
mod draw;
mod histogram;
mod keystream;
mod multinomial;
mod pool;
mod request;
mod svg;
#[cfg(test)]
mod tests;

pub use control::{CancelGuard, Control};
pub use histogram::Histogram;
pub use pool::parallelism;
pub use request::{DEFAULT_COUNT, HistogramRequest, MAX_VALUES, Method};

use crate::env::Env;
use crate::error::Result;

/// Counts how often each value of a range comes up among uniform random draws.
///
/// The call blocks until the answer is there, on a pool of its own; call it from a thread that may wait. The same
/// seed, count, range and method give the same counts on any number of threads; those of [`Method::Draw`] are the same on
/// every machine, those of [`Method::Multinomial`] on machines whose logarithms round alike.
///
/// # Examples
/// ```
/// use kappa_core::random::{HistogramRequest, histogram};
///
/// let answer = histogram(&HistogramRequest::new().count(10_000).range(1..=6).seed(7))?;
/// assert_eq!(answer.counts().iter().sum::<u64>(), 10_000);
/// # Ok::<(), kappa_core::Error>(())
/// ```
///
/// # Errors
/// `InvalidInput` for an empty range or zero threads, `TooLarge` for more than [`MAX_VALUES`] values, `Cancelled` when
/// the request's [`Control`] was cancelled, `Unavailable` when the machine gives no threads.
pub fn histogram(request: &HistogramRequest) -> Result<Histogram> {
    histogram_in(request, &Env::default())
}

/// [`histogram`] with time and chance from `env`.
pub(crate) fn histogram_in(request: &HistogramRequest, env: &Env) -> Result<Histogram> {
    run(request, env).map_err(|error| error.during("random.histogram"))
}

fn run(request: &HistogramRequest, env: &Env) -> Result<Histogram> {
    let values = request.values()?;
    let pool = pool::shared()?;
    let threads = request.thread_limit(pool.current_num_threads())?;
    let seed = request.seed.unwrap_or_else(|| keystream::fresh_seed(env.entropy.as_ref()));
    let control = &request.control;
    let started_ms = env.clock.boot_ms();
    let counts = match request.method {
        Method::Draw => draw::counts(pool, seed, request.count, values, threads, control)?,
        Method::Multinomial => multinomial::counts(pool, seed, request.count, values, threads, control)?,
    };
    control.finish();
    let elapsed_ms = env.clock.boot_ms().saturating_sub(started_ms);
    Ok(Histogram::new(request, seed, counts, elapsed_ms))
}
