//! The bytes of blocks and parts, in a file beside sled, which holds where each lies.
//!
//! sled writes a leaf anew with every tenth change of it: what lies here instead is written once. Nothing is written over that
//! may still be asked for: what sled names no more is free only when sled's own file says so durably, and when no reader
//! is left that looked before. The file becomes shorter where what lies at its end is free: when it is counted, with the first
//! write after it was opened, and when it would be shorter by a good part.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::directory;
use super::extents::{Extent, Extents};
use super::options::{Defect, Planted, ViewOptions};
use super::store::{Abandoned, StoreResult};
use crate::env::files::File;

/// What is written at a time at most.
const WRITE_BYTES: usize = 1 << 20;
/// The file is cut while it is in use only where more than one in so many of the bytes that stay is free behind them: what one
/// drain gives up the next one takes again.
const SPARE_SHARE: u64 = 4;

/// The file, and which of it is in use.
#[derive(Debug)]
pub struct BlockFile {
    file: Arc<dyn File>,
    space: Mutex<Space>,
    /// It is not cut for less.
    cut_from_bytes: u64,
    defect: Defect,
}

/// Says that sled's file is durable as it is.
#[derive(Debug)]
pub struct Durable(());

impl Durable {
    /// Returns when it is; `data` was opened before sled wrote anything. `skipped` is the defect that leaves it out.
    ///
    /// # Errors
    /// [`Abandoned`] when it cannot be synced.
    pub fn now(data: &dyn File, defect: Defect, skipped: Planted) -> StoreResult<Self> {
        let synced = sync(data, defect, skipped).map(|()| Self(()));
        synced.map_err(|error| Abandoned::new(format!("the view's file cannot be synced: {error}")))
    }
}

fn sync(file: &dyn File, defect: Defect, skipped: Planted) -> std::io::Result<()> {
    if defect.is(skipped) {
        return Ok(());
    }
    let synced = file.sync_data();
    if defect.is(Planted::FailedSyncIgnored) { Ok(()) } else { synced }
}

#[derive(Debug, Default)]
struct Space {
    /// None before the first write: reading needs none of it.
    extents: Option<Extents>,
    /// How long the file is at most: a write behind its end may have failed.
    length: u64,
    /// What sled names no more since its last flush.
    resting: Vec<Extent>,
}

impl BlockFile {
    /// The file in the directory of a view, made where there is none.
    ///
    /// # Errors
    /// [`Abandoned`] when it does not open.
    pub fn open(dir: &Path, options: &ViewOptions) -> StoreResult<Self> {
        let file = directory::open_or_make(&*options.files, &path(dir));
        let file = file.map_err(|error| Abandoned::new(format!("the file of blocks does not open: {error}")))?;
        let (cut_from_bytes, defect) = (options.cut_from_bytes, options.defect);
        Ok(Self { file, space: Mutex::default(), cut_from_bytes, defect })
    }

    /// The bytes of `extent`.
    pub fn read(&self, extent: Extent) -> StoreResult<Bytes> {
        let mut bytes = vec![0; extent.length as usize];
        let read = self.file.read_at(&mut bytes, extent.at);
        read.map_err(|error| Abandoned::new(format!("a block cannot be read: {error} at={}", extent.at)))?;
        Ok(bytes.into())
    }

    /// Whether it is known which of it is in use.
    pub fn is_counted(&self) -> bool {
        self.space.lock().extents.is_some()
    }

    /// Takes `used` for all that is in use, and gives back what lies behind it. sled's file has to be durable as it is.
    ///
    /// # Errors
    /// [`Abandoned`] where two of them overlap, or one is not there.
    pub fn count(&self, used: Vec<Extent>, _: &Durable) -> StoreResult<()> {
        let extents = Extents::around(used)?;
        let length = self.file.len().map_err(|error| cannot_write(&error))?;
        if length < extents.end() {
            return Err(Abandoned::new(format!(
                "the file of blocks was cut short: bytes={length} end={}",
                extents.end()
            )));
        }
        self.file.set_len(extents.end()).map_err(|error| cannot_write(&error))?;
        let mut space = self.space.lock();
        space.length = extents.end();
        space.extents = Some(extents);
        Ok(())
    }

    /// Writes each of `values` where nothing else lies; where they are.
    pub fn keep(&self, values: &[Bytes]) -> StoreResult<Vec<Extent>> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let mut kept = Vec::with_capacity(values.len());
        {
            let mut space = self.space.lock();
            let extents = space.extents.as_mut().ok_or_else(|| Abandoned::new("the file of blocks was not counted"))?;
            for value in values {
                let length = u32::try_from(value.len()).expect("blocks and parts are short");
                kept.push(extents.take(length));
            }
            let end = extents.end();
            space.length = space.length.max(end);
        }
        let mut in_order: Vec<_> = kept.iter().copied().zip(values).collect();
        in_order.sort_unstable_by_key(|(extent, _)| extent.at);
        let (mut run, mut run_at) = (Vec::new(), 0);
        for (extent, value) in in_order {
            if run_at + run.len() as u64 != extent.at || run.len() + extent.taken() > WRITE_BYTES {
                self.write_at(&run, run_at)?;
                run.clear();
                run_at = extent.at;
            }
            run.extend_from_slice(value);
            run.resize(run.len() + extent.taken() - value.len(), 0);
        }
        self.write_at(&run, run_at)?;
        Ok(kept)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> StoreResult<()> {
        if bytes.is_empty() {
            Ok(())
        } else {
            self.file.write_at(bytes, position).map_err(|error| cannot_write(&error))
        }
    }

    /// Returns when all that was kept survives a power cut.
    pub fn sync(&self) -> StoreResult<()> {
        sync(&*self.file, self.defect, Planted::BlocksNotSynced).map_err(|error| cannot_write(&error))
    }

    /// sled names `extent` no more.
    pub fn give_up(&self, extent: Extent) {
        let mut space = self.space.lock();
        match &mut space.extents {
            Some(extents) if self.defect.is(Planted::FreeAtOnce) => extents.give(extent),
            _ => space.resting.push(extent),
        }
    }

    /// What was given up is free from now on: sled names nothing of it any more, durably, and no reader that looked before is
    /// left.
    pub fn settle(&self, _: &Durable) {
        let mut space = self.space.lock();
        let resting = std::mem::take(&mut space.resting);
        let Some(extents) = &mut space.extents else { return };
        for extent in resting {
            extents.give(extent);
        }
        let end = extents.end();
        let surplus = space.length.saturating_sub(end);
        if surplus >= self.cut_from_bytes && surplus > end / SPARE_SHARE {
            match self.file.set_len(end) {
                Ok(()) => space.length = end,
                // It costs room and nothing else; the next flush tries again.
                Err(error) => tracing::warn!(%error, "the file of blocks could not be cut"),
            }
        }
    }
}

/// Where the file lies in the directory of a view.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("blocks")
}

fn cannot_write(error: &std::io::Error) -> Abandoned {
    Abandoned::new(format!("the file of blocks cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durable() -> Durable {
        Durable(())
    }

    fn open(dir: &Path) -> BlockFile {
        let options = ViewOptions { cut_from_bytes: 1, ..ViewOptions::default() };
        BlockFile::open(dir, &options).expect("the directory is there")
    }

    fn file() -> (tempfile::TempDir, BlockFile) {
        let scratch = tempfile::tempdir().expect("a directory for tests");
        let file = open(scratch.path());
        (scratch, file)
    }

    fn value(byte: u8, length: usize) -> Bytes {
        vec![byte; length].into()
    }

    #[test]
    fn what_was_kept_is_read_wherever_it_lies() {
        let (_scratch, file) = file();
        assert!(file.keep(&[value(0, 1)]).is_err(), "nobody knows what is in use");
        file.count(Vec::new(), &durable()).expect("nothing overlaps");
        let values: Vec<_> = (0..700).map(|number| value(number as u8, 1 + number * 13 % 5_000)).collect();
        let kept = file.keep(&values).expect("there is room");
        // Holes here and there, which the next ones fill in another order.
        kept.iter().step_by(3).for_each(|extent| file.give_up(*extent));
        file.settle(&durable());
        let others: Vec<_> = values.iter().rev().step_by(2).cloned().collect();
        let more = file.keep(&others).expect("there is room");
        file.sync().expect("it can be synced");
        let rest = kept.iter().zip(&values).enumerate().filter(|(number, _)| number % 3 > 0).map(|(_, pair)| pair);
        for (extent, value) in rest.chain(more.iter().zip(&others)) {
            assert_eq!(file.read(*extent).as_ref(), Ok(value));
        }
        assert!(file.read(Extent { at: 1 << 40, length: 1 }).is_err());
    }

    /// Whoever looked before may still read what was given up, until everything is settled.
    #[test]
    fn nothing_is_written_over_before_it_is_settled() {
        let (_scratch, file) = file();
        file.count(Vec::new(), &durable()).expect("nothing overlaps");
        let before = file.keep(&[value(1, 100)]).expect("there is room")[0];
        file.give_up(before);
        let next = file.keep(&[value(2, 100)]).expect("there is room")[0];
        assert_eq!(file.read(before), Ok(value(1, 100)));
        file.settle(&durable());
        let after = file.keep(&[value(3, 100)]).expect("there is room")[0];
        assert_eq!((after, file.read(next)), (before, Ok(value(2, 100))));
    }

    /// A collection that was dropped must not keep its room until the next start, and no drain may lose room that the next
    /// one needs.
    #[test]
    fn a_file_whose_end_is_free_becomes_shorter() {
        let (scratch, file) = file();
        file.count(Vec::new(), &durable()).expect("nothing overlaps");
        let length = || std::fs::metadata(path(scratch.path())).expect("it is there").len();
        let values = vec![value(1, 60 << 10); 40];
        let kept = file.keep(&values).expect("there is room");
        let all = length();
        kept[36..].iter().for_each(|extent| file.give_up(*extent));
        file.settle(&durable());
        assert_eq!(length(), all, "so little is needed soon");
        kept[10..36].iter().for_each(|extent| file.give_up(*extent));
        assert_eq!(length(), all, "readers may be there");
        file.settle(&durable());
        assert_eq!(length(), 10 * (60 << 10));
        for extent in &kept[..10] {
            assert_eq!(file.read(*extent), Ok(value(1, 60 << 10)));
        }
        let again = file.keep(&values[..3]).expect("there is room");
        assert_eq!(file.read(again[2]), Ok(value(1, 60 << 10)));
    }

    /// What a crash left behind the last block that counts goes when the file is written again.
    #[test]
    fn counting_cuts_off_what_is_not_in_use() {
        let (scratch, file) = file();
        file.count(Vec::new(), &durable()).expect("nothing overlaps");
        let kept = file.keep(&[value(1, 100), value(2, 9_000)]).expect("there is room");
        drop(file);
        let file = open(scratch.path());
        assert!(!file.is_counted());
        file.count(kept[..1].to_vec(), &durable()).expect("nothing overlaps");
        assert_eq!(std::fs::metadata(path(scratch.path())).expect("it is there").len(), 128);
        assert_eq!(file.read(kept[0]), Ok(value(1, 100)));
        assert!(file.count(vec![kept[0], kept[0]], &durable()).is_err());
        assert!(file.count(kept, &durable()).is_err(), "the second was cut off");
    }
}
