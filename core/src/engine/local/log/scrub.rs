//! Reading everything that is at rest, so that rot is found while another copy can still repair it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Log;
use super::scan::{Ending, TailIter};
use crate::error::{Error, ErrorKind, Result};

/// One place where stored bytes are not what was written.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, with the offset.
    pub error: Error,
}

impl Log {
    /// Verifies the base and every sealed segment, and answers the first damage of each file.
    ///
    /// `pause` is called with the bytes read since its last call, so that the caller can slow the scrub down;
    /// answering false ends it early.
    ///
    /// # Errors
    /// `Cancelled`, or `Unavailable` where a file cannot be read at all.
    pub fn scrub(&self, mut pause: impl FnMut(u64) -> bool) -> Result<Vec<Damage>> {
        let (base, segments) = {
            let state = self.state.read();
            (state.base.clone(), state.segments.clone())
        };
        let mut damages = Vec::new();
        if let Some(base) = base {
            let mut entries = base.iter();
            let checked = walk(&mut entries, |entries| entries.progress().0, &mut pause);
            note(&mut damages, &base.path, checked)?;
        }
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
            let ending = Ending { limit: None, sequence: next.header.previous, hash: next.header.hash };
            let mut records = TailIter::new(self.identity.database, vec![Arc::clone(segment)], ending, 0);
            let checked = walk(&mut records, |records| records.progress().0, &mut pause);
            note(&mut damages, &segment.path, checked)?;
        }
        Ok(damages)
    }
}

/// Runs to the end, to the first error, or until `pause` says so.
fn walk<T, I: Iterator<Item = Result<T>>>(
    items: &mut I,
    done: impl Fn(&I) -> u64,
    pause: &mut impl FnMut(u64) -> bool,
) -> Result<()> {
    let mut told = 0;
    while let Some(item) = items.next() {
        item?;
        let now = done(items);
        if now - told >= 64 << 10 {
            if !pause(now - told) {
                return Err(Error::new(ErrorKind::Cancelled, "the scrub was stopped"));
            }
            told = now;
        }
    }
    Ok(())
}

fn note(damages: &mut Vec<Damage>, file: &std::path::Path, checked: Result<()>) -> Result<()> {
    match checked {
        Err(error) if error.kind() == ErrorKind::Damaged => {
            damages.push(Damage { file: file.to_path_buf(), error });
            Ok(())
        }
        other => other,
    }
}
