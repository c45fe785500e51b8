//! Kinds that are somebody else's program: in a process, in a container, or behind an address. All of them come from the
//! configuration; what a request says never names a program, an image or an address.

mod container;
mod definitions;
mod engine;
mod program;
#[cfg(feature = "remote")]
mod service;
mod template;

use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::env::process::Folders;
use crate::error::{Error, ErrorKind, Result};

use super::kinds::Kinds;

pub use container::Containers;
pub use definitions::{ContainerDefinition, Limits, ProgramDefinition, ServiceDefinition, TaskPrograms, UserIds};

impl TaskPrograms {
    /// Adds every program, container and service to `kinds`, and answers what looks after containers that an earlier
    /// server has left. Working directories that were left are removed.
    ///
    /// # Errors
    /// `InvalidInput` naming the kind and the field that is wrong; `AlreadyExists` for a name that is taken; `Unsupported`
    /// for services without the feature `remote`; `Unavailable` where the directory of runs cannot be used.
    pub fn install(&self, kinds: &mut Kinds, env: &Env) -> Result<Option<Containers>> {
        let folders = if self.programs.is_empty() && self.containers.is_empty() { None } else { Some(self.folders()?) };
        for (name, definition) in &self.programs {
            let folders = folders.clone().expect("there are programs");
            let kind = program::RunProgram::new(definition, folders, env);
            kinds.insert(name, kind.map_err(|error| error.with("kind", name))?)?;
        }
        let mut containers = None;
        if let (Some(folders), false) = (&folders, self.containers.is_empty()) {
            let engine = engine::Engine::new(self.container_engine.as_deref(), folders.clone(), env)?;
            for (name, definition) in &self.containers {
                let kind = container::RunContainer::new(definition, engine.clone());
                kinds.insert(name, kind.map_err(|error| error.with("kind", name))?)?;
            }
            containers = Some(Containers::new(engine));
        }
        for (name, definition) in &self.services {
            let put = definition.check().and_then(|()| put_service(kinds, name, definition));
            put.map_err(|error| error.with("kind", name))?;
        }
        Ok(containers)
    }

    fn folders(&self) -> Result<Folders> {
        let place = self.directory.clone().unwrap_or_else(default_directory);
        Folders::open(&place).map_err(|error| {
            let error = Error::new(ErrorKind::Unavailable, "programs cannot run here").caused_by(error);
            error.with("field", "directory").with("directory", place.display())
        })
    }
}

#[cfg(feature = "remote")]
fn put_service(kinds: &mut Kinds, name: &str, definition: &ServiceDefinition) -> Result<()> {
    kinds.insert(name, service::CallService::new(name, definition)?)
}

#[cfg(not(feature = "remote"))]
fn put_service(_: &mut Kinds, _: &str, _: &ServiceDefinition) -> Result<()> {
    Err(Error::new(ErrorKind::Unsupported, "this build calls no services").with("field", "services"))
}

/// A directory of this user alone, among those that the system removes.
fn default_directory() -> PathBuf {
    std::env::temp_dir().join(format!("kappa-tasks-{}", rustix::process::geteuid().as_raw()))
}

/// A file that is run: by an absolute path, so that neither the environment nor the working directory chooses another.
fn check_program(path: &Path, field: &'static str) -> Result<()> {
    let wrong = |message: &str| Error::invalid(message).with("field", field).with("path", path.display());
    if !path.is_absolute() {
        return Err(wrong("a program is named by its absolute path"));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(wrong("a program is a file")),
        Err(error) => Err(wrong("the program is not there").caused_by(error)),
    }
}
