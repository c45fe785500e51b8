//! Where a bench keeps its files.

use std::path::Path;

use tempfile::TempDir;

/// A directory that goes with the value. `parent` is cargo's directory for benches: it lies on a disk, while the
/// system's temporary directory may be memory, where a sync costs nothing.
///
/// # Panics
/// When it cannot be made.
pub fn directory(parent: &str) -> TempDir {
    std::fs::create_dir_all(parent).expect("cargo's directory can be made");
    let name = tempfile::Builder::new().prefix("bench-").tempdir_in(Path::new(parent));
    name.expect("cargo's directory can be written")
}
