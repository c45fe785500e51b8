//! Opening after a clean end or a crash: where the tail ends, what was torn off, and what is damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{damaged, file_failed};
use super::manifest::{End, Manifest};
use super::record::{DatabaseId, FRAME_BYTES, Position, chain_hash, follows};
use super::scan::{Scanner, Step};
use super::segment::{HEADER_BYTES, Header, Segment, Spare, zero};
use crate::engine::Sequence;
use crate::env::files::Files;
use crate::error::{Error, Result};

/// What a torn end lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// The first byte that was cut.
    pub offset: u64,
    /// Bytes that were cut.
    pub bytes: u64,
    /// Records that could still be recognised among them.
    pub records: u64,
}

/// What opening found and did.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Whether the log had been closed; otherwise its process was ended or the power went.
    pub clean: bool,
    /// The torn ends that were cut, the older segment first. After a power cut they held only records
    /// that nobody was told about; damage to the very last group looks the same.
    pub cuts: Vec<Cut>,
    /// One of the two copies of MANIFEST was damaged; it has been written again.
    pub manifest_repaired: bool,
    /// The newest record.
    pub newest: Sequence,
    /// Files of an interrupted merge or segment that were removed.
    pub leftovers: Vec<String>,
}

/// The segments as they are after recovery.
#[derive(Debug)]
pub struct Recovered {
    /// Those in use, oldest first.
    pub segments: Vec<Arc<Segment>>,
    /// Those that hold nothing.
    pub spares: Vec<Spare>,
    /// Where the tail ends, durably.
    pub end: End,
    /// The torn ends.
    pub cuts: Vec<Cut>,
}

struct Recovery<'a> {
    database: DatabaseId,
    manifest: &'a Manifest,
    cuts: Vec<Cut>,
    /// The newest place that some record says was durable.
    known_synced: Position,
}

/// A repair, decided before anything is written: a refused opening changes nothing.
enum Repair {
    Zero { spare: Spare, from: u32, to: u32 },
    Rewrite { spare: Spare, from: u32, to: u32 },
}

/// Finds the end of the tail and makes it durable.
pub fn recover(files: &dyn Files, dir: &Path, manifest: &Manifest, start: End) -> Result<Recovered> {
    let mut opened = Vec::new();
    for id in manifest.first_segment..=manifest.last_segment {
        let path = dir.join(super::segment::file_name(id));
        let spare = Spare::open(files, dir, id).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damaged(&path, 0, "a segment that MANIFEST names is missing"),
            std::io::ErrorKind::InvalidData => damaged(&path, 0, "a segment has an impossible length"),
            _ => file_failed("log.open", &path, error),
        })?;
        if (spare.bytes as usize) < HEADER_BYTES {
            return Err(damaged(&path, u64::from(spare.bytes), "a segment is too short"));
        }
        opened.push(spare);
    }
    let mut recovery = Recovery {
        database: manifest.identity.database,
        manifest,
        cuts: Vec::new(),
        known_synced: Position::default(),
    };
    let mut repairs = Vec::new();
    let (used, spares) = recovery.split(opened, &mut repairs)?;
    let mut segments = Vec::new();
    for (spare, header) in used {
        segments.push(Arc::new(spare.start(header)));
    }
    let end = match segments.last() {
        Some(active) => recovery.find_end(active, &mut repairs)?,
        None => start,
    };
    recovery.check_end(dir, &segments, end)?;
    for repair in &repairs {
        repair.perform()?;
    }
    Ok(Recovered { segments, spares, end, cuts: recovery.cuts })
}

type Used = Vec<(Spare, Header)>;

impl Recovery<'_> {
    /// Which segments are in use: all up to the last one whose header is valid.
    fn split(&mut self, mut opened: Vec<Spare>, repairs: &mut Vec<Repair>) -> Result<(Used, Vec<Spare>)> {
        let mut spares = Vec::new();
        while let Some(last) = opened.last() {
            if self.header(last)?.is_some() {
                break;
            }
            let spare = opened.pop().expect("it was just looked at");
            self.clear(&spare, repairs)?;
            spares.insert(0, spare);
        }
        let mut used: Used = Vec::new();
        for spare in opened {
            let Some(header) = self.header(&spare)? else {
                return Err(damaged(&spare.path, 0, "the header of a segment is damaged"));
            };
            if header.bytes != spare.bytes {
                return Err(damaged(&spare.path, u64::from(spare.bytes), "a segment has lost its end"));
            }
            used.push((spare, header));
        }
        Ok((used, spares))
    }

    fn header(&self, spare: &Spare) -> Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        spare.file.read_at(&mut bytes, 0).map_err(|error| file_failed("log.open", &spare.path, error))?;
        let header = Header::decode(&bytes, &self.database, spare.id);
        if header.is_none() && Header::is_whole(&bytes) {
            // Not torn: somebody put this file here, and cutting it would destroy what it holds.
            return Err(damaged(&spare.path, 0, "this segment belongs to another place, database or version"));
        }
        Ok(header)
    }

    /// A segment without a header: unused, or its first group was torn with the header.
    fn clear(&mut self, spare: &Spare, repairs: &mut Vec<Repair>) -> Result<()> {
        if self.manifest.closed.is_some_and(|end| end.position.segment < spare.id) {
            return Ok(());
        }
        let failed = |error| file_failed("log.open", &spare.path, error);
        let Some(last) = spare.last_used(0).map_err(failed)? else { return Ok(()) };
        let start = Position { segment: spare.id, offset: 0 };
        let records = self.evidence(spare, start, last)?;
        self.refuse_if_synced(&spare.path, start, "the header of a segment is damaged")?;
        self.cuts.insert(0, Cut { file: spare.path.clone(), offset: 0, bytes: u64::from(last) + 1, records });
        repairs.push(Repair::Zero { spare: spare.clone(), from: 0, to: last + 1 });
        Ok(())
    }

    /// Counts the frames behind `from`, where `last` is the last byte in use, and learns what they say was durable.
    fn evidence(&mut self, spare: &Spare, from: Position, last: u32) -> Result<u64> {
        // A frame may end in zeros.
        let limit = spare.bytes.min(last.saturating_add(FRAME_BYTES as u32));
        let mut scanner = Scanner::new(&spare.file, self.database, from, limit);
        let mut frames = 0;
        while let Some(frame) = scanner.search().map_err(|error| file_failed("log.open", &spare.path, error))? {
            frames += 1;
            self.known_synced = self.known_synced.max(frame.synced);
        }
        Ok(frames)
    }

    fn refuse_if_synced(&self, path: &Path, place: Position, what: &str) -> Result<()> {
        #[cfg(test)]
        if super::planted::is(super::Planted::AcceptDamageAsTorn) {
            return Ok(());
        }
        if self.known_synced > place {
            return Err(damaged(path, u64::from(place.offset), what));
        }
        Ok(())
    }

    fn find_end(&mut self, active: &Segment, repairs: &mut Vec<Repair>) -> Result<End> {
        let failed = |error| file_failed("log.open", &active.path, error);
        let spare = Spare {
            id: active.id,
            path: active.path.clone(),
            file: Arc::clone(&active.file),
            bytes: active.header.bytes,
        };
        let mut scanner = Scanner::new(&active.file, self.database, active.start(), active.header.bytes);
        let mut end = active.before();
        let mut synced = Position { segment: active.id, offset: 0 };
        let mut places = Vec::new();
        while let Step::Found(found) = scanner.step().map_err(failed)? {
            if found.link.previous != end.hash || !follows(end.sequence, found.link.sequence) {
                break;
            }
            places.push((found.link.sequence, found.offset));
            synced = synced.max(found.frame.synced);
            end.position.offset = scanner.offset();
            end.sequence = found.link.sequence;
            end.hash = chain_hash(&found.content);
            end.time = found.link.time;
        }
        #[cfg(test)]
        if super::planted::is(super::Planted::CutTooEarly) && self.manifest.closed.is_none() {
            (end, places) = cut_back(active, self.database, synced);
        }
        active.mark(places);
        self.known_synced = self.known_synced.max(synced);
        if self.manifest.closed.is_some() {
            return Ok(end);
        }
        if let Some(last) = spare.last_used(end.position.offset).map_err(failed)? {
            let records =
                u64::from(scanner.offset() > end.position.offset) + self.evidence(&spare, end.position, last)?;
            let bytes = u64::from(last + 1 - end.position.offset);
            self.cuts
                .insert(0, Cut { file: spare.path.clone(), offset: u64::from(end.position.offset), bytes, records });
            repairs.push(Repair::Zero { spare: spare.clone(), from: end.position.offset, to: last + 1 });
        }
        self.refuse_if_synced(&active.path, end.position, "a record is damaged")?;
        repairs.push(Repair::Rewrite { spare, from: synced.offset, to: end.position.offset });
        Ok(end)
    }

    /// The tail must reach everything that MANIFEST knows to have been durable.
    fn check_end(&self, dir: &Path, segments: &[Arc<Segment>], end: End) -> Result<()> {
        let path = segments.last().map_or_else(|| dir.to_path_buf(), |active| active.path.clone());
        let missing = |what: &str| -> Error { damaged(&path, u64::from(end.position.offset), what) };
        #[cfg(test)]
        if super::planted::is(super::Planted::IgnoreClosedMark) {
            return Ok(());
        }
        if self.manifest.closed.is_some_and(|closed| closed != end) {
            return Err(missing("the log does not end where it was closed"));
        }
        if end.sequence < self.manifest.durable {
            return Err(missing("records that were durable are missing"));
        }
        Ok(())
    }
}

impl Repair {
    fn perform(&self) -> Result<()> {
        let (spare, done) = match self {
            Self::Zero { spare, from, to } => {
                #[cfg(test)]
                if super::planted::is(super::Planted::SkipZeroing) {
                    return Ok(());
                }
                (spare, zero(&*spare.file, *from, *to))
            }
            Self::Rewrite { spare, from, to } => {
                #[cfg(test)]
                if super::planted::is(super::Planted::SkipRewrite) {
                    return Ok(());
                }
                (spare, rewrite(spare, *from, *to))
            }
        };
        done.and_then(|()| spare.file.sync_data()).map_err(|error| file_failed("log.open", &spare.path, error))
    }
}

/// Writes the same bytes again: after a failed sync the system may hold pages that read well, count as
/// clean, and never reached the disk. Only a new write makes the next sync carry them.
fn rewrite(spare: &Spare, from: u32, to: u32) -> std::io::Result<()> {
    let mut content = vec![0; (to - from) as usize];
    spare.file.read_at(&mut content, u64::from(from))?;
    spare.file.write_at(&content, u64::from(from))
}

#[cfg(test)]
fn cut_back(active: &Segment, database: DatabaseId, synced: Position) -> (End, Vec<(Sequence, u32)>) {
    let limit = synced.offset.max(active.start().offset);
    let mut scanner = Scanner::new(&active.file, database, active.start(), limit);
    let (mut end, mut places) = (active.before(), Vec::new());
    while let Ok(Step::Found(found)) = scanner.step() {
        places.push((found.link.sequence, found.offset));
        end = End {
            position: Position { segment: active.id, offset: scanner.offset() },
            sequence: found.link.sequence,
            hash: chain_hash(&found.content),
            time: found.link.time,
        };
    }
    (end, places)
}
