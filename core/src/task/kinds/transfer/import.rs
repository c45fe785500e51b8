//! `import`: the documents of a file into a collection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::env::exchange::Exchange;
use crate::error::Result;
use crate::operation::{CollectionName, Operation};
use crate::store::document::Document;
use crate::task::kinds::checkpoint::{Checkpoint, Refused};
use crate::task::kinds::{Context, Failure, Kind, Outcome, parameters};

use super::csv_types::Column;
use super::reading::{Documents, Numbered, wrong_line};
use super::{Format, format_of};

const BATCH_DOCUMENTS: usize = 200;
/// Half of what one operation may hold.
const BATCH_BYTES: usize = 512 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    collection: CollectionName,
    file: String,
    format: Option<Format>,
    #[serde(default)]
    types: BTreeMap<String, Column>,
    #[serde(default)]
    existing: Existing,
}

/// What happens to a document whose id is taken.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Existing {
    /// The import ends there.
    #[default]
    Refuse,
    /// It stays as it is.
    Skip,
    /// It is replaced.
    Replace,
}

/// What was done of the file, whichever run did it.
#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    /// Documents that were read.
    read: u64,
    imported: u64,
    replaced: u64,
    skipped: u64,
}

/// Adds the documents of a file to a collection: `collection`, `file`, `format` (`jsonl` or `csv`, as the file's name ends unless it
/// is said), `existing` (`refuse`, `skip` or `replace` documents whose id is taken) and, for a table, `types` of columns that hold no
/// text (`number`, `boolean`, `json`). An empty cell is a missing field. A document without an id gets one of the
/// task and its line. Result: `{"imported", "replaced", "skipped"}`.
///
/// A line that is wrong ends the import with its number; what stands before it stays. A run after a crash goes on behind
/// the last batch that was written, so the file must not change meanwhile.
pub struct Import {
    pub exchange: Arc<Exchange>,
}

impl Kind for Import {
    fn check(&self, params: &Value) -> Result<()> {
        let parameters: Parameters = parameters::read(params)?;
        format_of(&parameters.file, parameters.format).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let parameters: Parameters = parameters::read(context.params())?;
        let format = format_of(&parameters.file, parameters.format)?;
        let file = self.exchange.read(&parameters.file).map_err(|error| not_opened(&parameters.file, &error))?;
        let mut documents = Documents::open(file, format, &parameters.types)?;
        let (mut checkpoint, mut state) = Checkpoint::find::<State>(context)?;
        for _ in 0..state.read {
            if documents.next()?.is_none() {
                return Err(Failure::lasting("file", "the file is shorter than when the task was run before"));
            }
        }
        while let Some(batch) = next_batch(&mut documents, context.id())? {
            if context.cancelled() {
                return Err(Failure::cancelled());
            }
            write(context, &parameters, &mut checkpoint, &mut state, batch)?;
            context.progress(documents.progress());
        }
        let State { imported, replaced, skipped, .. } = state;
        Ok(json!({"imported": imported, "replaced": replaced, "skipped": skipped}))
    }
}

fn not_opened(file: &str, error: &io::Error) -> Failure {
    let message = format!("the file {file:?} cannot be read: {error}");
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::QuotaExceeded | io::ErrorKind::ResourceBusy => {
            Failure::passing("file", message)
        }
        _ => Failure::lasting("file", message),
    }
}

fn next_batch(documents: &mut Documents, task: u64) -> std::result::Result<Option<Vec<Numbered>>, Failure> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES {
        let Some((line, document)) = documents.next()? else { break };
        let document = if document.fields().contains_key("id") {
            document
        } else {
            document.with_id(&format!("import-{task}-{line}")).map_err(|error| wrong_line(line, error))?
        };
        bytes += document.len();
        batch.push((line, document));
    }
    Ok((!batch.is_empty()).then_some(batch))
}

fn write(
    context: &dyn Context,
    parameters: &Parameters,
    checkpoint: &mut Checkpoint,
    state: &mut State,
    batch: Vec<Numbered>,
) -> std::result::Result<(), Failure> {
    let mut next = state.clone();
    next.read += batch.len() as u64;
    let taken = if parameters.existing == Existing::Refuse { Vec::new() } else { taken(context, parameters, &batch)? };
    let mut lines = Vec::with_capacity(batch.len());
    let mut operations = Vec::with_capacity(batch.len());
    for (position, (line, document)) in batch.into_iter().enumerate() {
        let is_taken = taken.get(position).copied().unwrap_or_default();
        if is_taken && parameters.existing == Existing::Skip {
            next.skipped += 1;
            continue;
        }
        let collection = parameters.collection.clone();
        lines.push(line);
        operations.push(if is_taken {
            next.replaced += 1;
            let id = id_of(line, &document)?.to_owned();
            Operation::Replace { collection, id, document, if_version: None, ttl_ms: None }
        } else {
            next.imported += 1;
            Operation::Create { collection, document, ttl_ms: None }
        });
    }
    checkpoint.write(context, operations, &next).map_err(|refused| match refused {
        Refused::Failed(Some(position), error) if !error.kind().is_retryable() => {
            wrong_line(lines.get(position).copied().unwrap_or_default(), error)
        }
        refused => refused.into(),
    })?;
    *state = next;
    Ok(())
}

/// Which of the documents there are already, also earlier in the batch.
fn taken(
    context: &dyn Context,
    parameters: &Parameters,
    batch: &[Numbered],
) -> std::result::Result<Vec<bool>, Failure> {
    let mut ids = Vec::with_capacity(batch.len());
    for (line, document) in batch {
        ids.push(id_of(*line, document)?);
    }
    let collection = context.kappa().collection(parameters.collection.as_str())?;
    let found = collection.get_many(ids.iter().copied()).wait()?;
    let mut seen = std::collections::BTreeSet::new();
    Ok(ids.iter().zip(found).map(|(id, found)| !seen.insert(*id) || found.is_some()).collect())
}

fn id_of(line: u64, document: &Document) -> std::result::Result<&str, Failure> {
    document.fields().get("id").and_then(Value::as_str).ok_or_else(|| wrong_line(line, "an id is a text"))
}
