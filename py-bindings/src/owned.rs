//! Values that belong to the process that made them: a forked child has their memory but none of their threads.

use kappa_core::env::generation;
use kappa_core::{Error, ErrorKind, Result};
use pyo3::Python;

/// A value that works in its own process only.
///
/// In a forked child every use is an error instead of a wait for a thread that is not there, and the drop leaks: a drop
/// that closes a database would give the parent's lock away.
#[derive(Debug)]
pub struct Owned<T: Send + 'static> {
    /// Which process of a line of forks; none where core itself finds its way in a forked child.
    process: Option<u64>,
    value: Option<T>,
}

impl<T: Send + 'static> Owned<T> {
    pub fn new(value: T) -> Self {
        Self { process: Some(generation()), value: Some(value) }
    }

    /// A value that works in forked children too.
    pub fn shared(value: T) -> Self {
        Self { process: None, value: Some(value) }
    }

    /// The value, in its own process.
    pub fn get(&self) -> Result<&T> {
        self.check()?;
        Ok(self.value.as_ref().expect("only `take` and a drop take it"))
    }

    /// The value to change, in its own process.
    pub fn get_mut(&mut self) -> Result<&mut T> {
        self.check()?;
        Ok(self.value.as_mut().expect("only `take` and a drop take it"))
    }

    /// The value itself, in its own process.
    pub fn take(mut self) -> Result<T> {
        self.check()?;
        Ok(self.value.take().expect("only `take` and a drop take it"))
    }

    /// Whether this is a forked child of the process that made the value.
    pub fn is_foreign(&self) -> bool {
        self.process.is_some_and(|process| process != generation())
    }

    fn check(&self) -> Result<()> {
        if !self.is_foreign() {
            return Ok(());
        }
        let message = "this handle was made before a fork and belongs to the parent process";
        Err(Error::new(ErrorKind::Closed, message))
    }
}

impl<T: Send + 'static> Drop for Owned<T> {
    fn drop(&mut self) {
        let foreign = self.is_foreign();
        let Some(value) = self.value.take() else { return };
        if foreign {
            Box::leak(Box::new(value));
            return;
        }
        // The last handle closes its database, which waits for the disk: other Python threads go on meanwhile.
        let mut value = Some(value);
        Python::try_attach(|py| py.detach(|| drop(value.take())));
        drop(value);
    }
}
