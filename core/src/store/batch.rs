//! Several operations that happen together or not at all.

use crate::error::{Error, ErrorKind};
use crate::operation::{Answer, Entry, Operation};
use crate::partition::{Halt, Run, Transaction};

use super::MAX_ANSWER_BYTES;

/// A batch holds at most this many operations.
pub const MAX_OPERATIONS: usize = 1_000;

/// Runs all of them; an error names the operation that failed by its position, from 0.
pub fn run(tx: &mut Transaction<'_>, operations: &[Operation]) -> Run<Answer> {
    if operations.len() > MAX_OPERATIONS {
        let error = Error::new(ErrorKind::TooLarge, "a batch holds too many operations");
        return Err(error.with("operations", operations.len()).with("limit", MAX_OPERATIONS).into());
    }
    let mut answers = Vec::with_capacity(operations.len());
    let mut missing = false;
    let mut bytes = 0;
    for (n, operation) in operations.iter().enumerate() {
        let n = u16::try_from(n).expect("a batch is short");
        match run_one(tx, operation, n) {
            Ok(answer) => {
                bytes += read_bytes(operation, &answer);
                answers.push(answer);
            }
            // The others still say what they need, so that it is all fetched in one round. What they
            // answer over reads that are missing means nothing.
            Err(Halt::NeedsRead) => missing = true,
            Err(Halt::Refused(_)) if missing => {}
            Err(Halt::Refused(error)) => return Err(error.with("operation", n).into()),
        }
        if bytes > MAX_ANSWER_BYTES {
            let error = Error::new(ErrorKind::TooLarge, "the batch reads too much for one answer; split it");
            return Err(error.with("operation", n).with("limit", MAX_ANSWER_BYTES).into());
        }
    }
    if missing { Err(Halt::NeedsRead) } else { Ok(Answer::Batch(answers)) }
}

fn run_one(tx: &mut Transaction<'_>, operation: &Operation, n: u16) -> Run<Answer> {
    let background = match operation {
        Operation::BuildIndex { .. } | Operation::Sweep => true,
        Operation::Task(task) => task.is_background(),
        _ => false,
    };
    if background {
        return Err(Error::invalid("a batch holds no background work").into());
    }
    super::run_one(operation, tx, n)
}

/// What the answer of a read weighs; what a write answers is bounded by what it wrote.
fn read_bytes(operation: &Operation, answer: &Answer) -> usize {
    match operation {
        Operation::Create { .. } | Operation::Replace { .. } => 0,
        _ => bytes(answer),
    }
}

/// The documents of one answer, in bytes.
pub fn bytes(answer: &Answer) -> usize {
    let size = |entry: &Entry| entry.document.len();
    match answer {
        Answer::Entry(Some(entry)) | Answer::Written(entry) => size(entry),
        Answer::Entries(entries) => entries.iter().flatten().map(size).sum(),
        Answer::Page(page) => page.entries.iter().map(size).sum(),
        _ => 0,
    }
}
