//! How far a task has come, written together with what it did: a run after a crash goes on there, and two runs of one
//! task cannot both write.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{Error, ErrorKind};
use crate::operation::{Answer, CollectionName, Operation, Version};
use crate::store::document::Document;
use crate::store::handle::Batch;

use super::{Context, Failure};

const COLLECTION: &str = "task_checkpoints";
/// Longer than a task that failed is kept, so that one that is brought back finds it.
const KEPT_MS: u64 = 40 * 24 * 3_600 * 1_000;

/// The checkpoint of one task.
#[derive(Debug)]
pub struct Checkpoint {
    id: String,
    version: Option<Version>,
}

/// Why a batch was not written.
#[derive(Debug)]
pub enum Refused {
    /// Another run of the task has written since: this one must stop.
    Overtaken(Failure),
    /// An operation of the batch, counted from 0, was refused; or the whole batch.
    Failed(Option<usize>, Error),
}

impl Checkpoint {
    /// The checkpoint of the task that runs, and what it holds.
    ///
    /// # Errors
    /// Of the database.
    pub fn find<S: DeserializeOwned + Default>(context: &dyn Context) -> Result<(Self, S), Failure> {
        let id = context.id().to_string();
        let entry = context.kappa().collection(COLLECTION)?.entry(&id).wait()?;
        let state = entry.as_ref().and_then(|entry| entry.document.fields().get("state").cloned());
        let state = match state {
            Some(state) => serde_json::from_value(state).map_err(|error| {
                Failure::lasting("checkpoint", format!("the checkpoint of the task is of another kind: {error}"))
            })?,
            None => S::default(),
        };
        Ok((Self { id, version: entry.map(|entry| entry.version) }, state))
    }

    /// Writes the operations and `state` together, or neither.
    ///
    /// # Errors
    /// As [`Refused`] says.
    pub fn write(
        &mut self,
        context: &dyn Context,
        operations: Vec<Operation>,
        state: &impl Serialize,
    ) -> Result<(), Refused> {
        let failed = |error| Refused::Failed(None, error);
        let document = Document::new(&json!({"id": self.id, "state": state})).map_err(failed)?;
        let collection = CollectionName::new(COLLECTION).map_err(failed)?;
        let ttl_ms = Some(KEPT_MS);
        let own = match self.version {
            None => Operation::Create { collection, document, ttl_ms },
            Some(_) => {
                Operation::Replace { collection, id: self.id.clone(), document, if_version: self.version, ttl_ms }
            }
        };
        // First, so that a run that was overtaken is told so, and not that its documents are there.
        let batch = operations.into_iter().fold(context.kappa().batch().operation(own), Batch::operation);
        let answers = batch.commit().wait().map_err(|error| self.refused(error))?;
        if let Some(Answer::Written(entry)) = answers.first() {
            self.version = Some(entry.version);
        }
        Ok(())
    }

    fn refused(&self, error: Error) -> Refused {
        let position = error.context().iter().find(|(name, _)| *name == "operation");
        let position: Option<usize> = position.and_then(|(_, value)| value.parse().ok());
        let overtaken =
            matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::VersionMismatch | ErrorKind::NotFound);
        match position {
            Some(0) if overtaken => {
                let message = format!("another run of task {} has gone on", self.id);
                Refused::Overtaken(Failure::lasting("overtaken", message))
            }
            Some(position) => Refused::Failed(position.checked_sub(1), error),
            None => Refused::Failed(None, error),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overtaken(failure) => failure,
            Refused::Failed(_, error) => error.into(),
        }
    }
}
