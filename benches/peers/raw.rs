//! The bare loop under every durable write: append, `fdatasync`, again.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use kappa_benches::Stopwatch;

const FILE_BYTES: usize = 64 << 20;

/// A file that was written full of zeros, as the log's segments are: a sync then changes no metadata.
pub struct Raw {
    file: File,
    at: usize,
    bytes: Vec<u8>,
}

impl Raw {
    pub fn new(directory: &Path) -> Self {
        let mut file = File::create(directory.join("raw")).expect("the directory can be written");
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES / zeros.len() {
            file.write_all(&zeros).expect("the disk has room");
        }
        file.sync_all().expect("the disk syncs");
        Self { file, at: 0, bytes: vec![0x5a; 8 << 20] }
    }

    /// Seconds to append and sync groups of these sizes, one after another.
    pub fn run(&mut self, groups: &[usize]) -> f64 {
        let watch = Stopwatch::start();
        for &size in groups {
            if self.at + size > FILE_BYTES {
                self.at = 0;
            }
            self.file.write_all_at(&self.bytes[..size], self.at as u64).expect("the file is there");
            self.file.sync_data().expect("the disk syncs");
            self.at += size;
        }
        watch.seconds()
    }
}
