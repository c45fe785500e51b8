//! What callers may ask for.

use crate::error::{Error, ErrorKind, Result};

use super::model::{Backoff, NewTask, QueueSettings, RetryBudget};

/// A queue, kind or schedule is named by at most this many bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// A unique key is at most this long.
pub const MAX_UNIQUE_BYTES: usize = 256;
/// A description or error is at most this long.
pub const MAX_TEXT_BYTES: usize = 4 << 10;
/// A worker is named by at most this many bytes.
pub const MAX_WORKER_BYTES: usize = 128;
/// A database holds at most this many queues.
pub const MAX_QUEUES: u16 = 1_000;
/// A database holds at most this many schedules.
pub const MAX_SCHEDULES: usize = 1_000;
/// One call adds, claims, reports, renews or lists at most this many tasks.
pub const MAX_TASKS: usize = 1_000;
/// A lease holds this long where nothing else is said.
pub const LEASE_MS: u64 = 30_000;

const MAX_PRIORITY: i32 = 100;
const MAX_ATTEMPTS: u32 = 1_000;
const MAX_TIMEOUT_MS: u64 = 30 * DAY_MS;
const MAX_DELAY_MS: u64 = 3_660 * DAY_MS;
const MAX_STEPS: usize = 100;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Checks the name of a queue, kind or schedule.
pub fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        let message = "a queue, kind or schedule is named by 1 to 64 letters, digits, _, -, . and :";
        return Err(Error::invalid(message).with("name", cut(name)));
    }
    Ok(())
}

/// Checks what a task is asked for with.
pub fn check_task(new: &NewTask) -> Result<()> {
    check_name(&new.queue)?;
    new.params.check_size()?;
    if let Some(kind) = &new.kind {
        check_name(kind)?;
    }
    if new.priority.abs() > MAX_PRIORITY {
        return Err(Error::invalid("a priority is -100 to 100").with("priority", new.priority));
    }
    if new.delay_ms.is_some() && new.due_at.is_some() {
        return Err(Error::invalid("a task has a delay or a due time, not both"));
    }
    if new.delay_ms.is_some_and(|ms| ms > MAX_DELAY_MS) {
        return Err(Error::invalid("a delay is at most ten years"));
    }
    if new.due_at.is_some_and(|at| !(0..=1 << 53).contains(&at)) {
        return Err(Error::invalid("a due time is in milliseconds since 1970"));
    }
    if let Some(unique) = &new.unique
        && (unique.is_empty() || unique.len() > MAX_UNIQUE_BYTES)
    {
        return Err(Error::invalid("a unique key is 1 to 256 bytes").with("bytes", unique.len()));
    }
    if let Some(text) = &new.description
        && text.len() > MAX_TEXT_BYTES
    {
        let error = Error::new(ErrorKind::TooLarge, "a description is at most 4 KiB");
        return Err(error.with("bytes", text.len()));
    }
    new.attempts.map_or(Ok(()), check_attempts)?;
    new.timeout_ms.map_or(Ok(()), check_timeout)?;
    new.backoff.as_ref().map_or(Ok(()), check_backoff)
}

/// Checks what a queue is configured with.
pub fn check_settings(settings: &QueueSettings) -> Result<()> {
    check_attempts(settings.attempts)?;
    check_timeout(settings.timeout_ms)?;
    check_backoff(&settings.backoff)?;
    if settings.concurrency == Some(0) {
        return Err(Error::invalid("a concurrency of 0 runs nothing; pause the queue instead"));
    }
    if let Some(rate) = settings.rate
        && (!(1..=1_000_000).contains(&rate.count) || !(1..=DAY_MS).contains(&rate.per_ms))
    {
        return Err(Error::invalid("a rate is 1 to 1 000 000 starts in 1 ms to a day"));
    }
    let RetryBudget { percent, per_second } = settings.retry_budget;
    if percent > 100 || !(1..=1_000_000).contains(&per_second) {
        let error = Error::invalid("a retry budget is 0 to 100 percent, and at least 1 to 1 000 000 a second");
        return Err(error.with("percent", percent).with("per_second", per_second));
    }
    if settings.keep_ms.max(settings.keep_failed_ms) > MAX_DELAY_MS {
        return Err(Error::invalid("tasks are kept at most ten years"));
    }
    Ok(())
}

/// How long a lease holds that was asked for with `lease_ms`.
pub fn check_lease(lease_ms: u64) -> Result<u64> {
    match lease_ms {
        0 => Ok(LEASE_MS),
        1_000..=3_600_000 => Ok(lease_ms),
        _ => Err(Error::invalid("a lease holds 1 s to 1 h").with("lease_ms", lease_ms)),
    }
}

/// Checks how many things one call names.
pub fn check_many(what: usize) -> Result<()> {
    if what > MAX_TASKS {
        let error = Error::new(ErrorKind::TooLarge, "too many tasks in one call");
        return Err(error.with("tasks", what).with("limit", MAX_TASKS));
    }
    Ok(())
}

/// The text, cut where it is too long.
pub fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn check_attempts(attempts: u32) -> Result<()> {
    if !(1..=MAX_ATTEMPTS).contains(&attempts) {
        return Err(Error::invalid("a task runs 1 to 1 000 times at most").with("attempts", attempts));
    }
    Ok(())
}

fn check_timeout(timeout_ms: u64) -> Result<()> {
    if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
        return Err(Error::invalid("a timeout is 1 ms to 30 days").with("timeout_ms", timeout_ms));
    }
    Ok(())
}

fn check_backoff(backoff: &Backoff) -> Result<()> {
    let steps: &[u64] = match backoff {
        Backoff::Exponential { base_ms, cap_ms } => &[*base_ms, *cap_ms],
        Backoff::Fixed { ms } => &[*ms],
        Backoff::Custom { ms } if ms.is_empty() || ms.len() > MAX_STEPS => {
            return Err(Error::invalid("a backoff names 1 to 100 times").with("times", ms.len()));
        }
        Backoff::Custom { ms } => ms,
    };
    match steps.iter().max() {
        Some(&longest) if longest > MAX_DELAY_MS => Err(Error::invalid("a backoff is at most ten years")),
        _ => Ok(()),
    }
}
