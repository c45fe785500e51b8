//! Damaged, cut, swapped and missing files: detected and named, or provably harmless, never a wrong answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::basics::{DIR, IDENTITY, put, small};
use super::workload::{Verdict, Workload, check, soak};
use crate::engine::Durability;
use crate::engine::local::log::manifest::{MANIFEST, Manifest};
use crate::engine::local::log::record::{FRAME_BYTES, Frame, Position};
use crate::engine::local::log::space::BALLAST;
use crate::engine::local::log::{Identity, Log, base, segment};
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::env::files::{Files, OpenMode};
use crate::error::{ErrorKind, Result};

const STEPS: usize = 120;
const RANDOM_FLIPS: usize = 600;

/// A log on disk, and what is in it.
struct Stored {
    work: Workload,
    clean: bool,
    /// Without the group that an unclean end cannot tell from a torn one.
    least: usize,
}

fn make(seed: u64, clean: bool) -> Verdict<Stored> {
    let mut work = Workload::new(seed, Durability::Synced);
    for _ in 0..STEPS {
        work.step().map_err(|error| error.to_string())?;
    }
    work.append().and_then(|()| work.append()).map_err(|error| error.to_string())?;
    let ending = work.issued.last().unwrap().synced;
    let mut least = work.issued.iter().take_while(|issued| issued.synced < ending).count();
    if clean {
        work.close().map_err(|error| error.to_string())?;
        least = work.issued.len();
    }
    work.files = work.files.crash(Crash::Lost);
    Ok(Stored { work, clean, least })
}

impl Stored {
    fn names(&self) -> Vec<PathBuf> {
        let names = self.work.files.list(Path::new(DIR)).unwrap();
        names.into_iter().filter(|name| name != BALLAST).map(|name| Path::new(DIR).join(name)).collect()
    }

    /// Opens the damaged disk and reads everything; true when the damage was named.
    fn judge(&self, disk: &SimulatedFiles) -> Verdict<bool> {
        self.judge_beyond(disk, self.least)
    }

    fn judge_beyond(&self, disk: &SimulatedFiles, least: usize) -> Verdict<bool> {
        let opened = Log::open(Arc::new(disk.clone()), Path::new(DIR), self.work.options.clone());
        let log = match opened {
            Ok((log, _)) => log,
            Err(error) if error.kind() == ErrorKind::Damaged => return Ok(true),
            Err(error) => return Err(format!("an unexpected kind of failure: {error}")),
        };
        let read = (|| -> Result<()> {
            log.tail_iter(log.oldest())?.collect::<Result<Vec<_>>>()?;
            log.base_iter().map_or(Ok(()), |(base, _)| base.collect::<Result<Vec<_>>>().map(drop))
        })();
        match read {
            Ok(()) => check(&log, &self.work.issued, least, self.work.issued.len()).map(|_| false),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let whole = log.scrub(|_| true).map_err(|error| error.to_string())?;
                if whole.is_empty() && self.clean {
                    return Err(format!("a scrub overlooks what a reader finds: {error}"));
                }
                Ok(true)
            }
            Err(error) => Err(format!("an unexpected kind of failure: {error}")),
        }
    }

    fn flip(&self, path: &Path, place: usize, bit: u8) -> Verdict<bool> {
        let disk = self.work.files.crash(Crash::Lost);
        disk.damage(path, |content| content[place] ^= 1 << bit);
        let clean = self.clean;
        self.judge(&disk)
            .map_err(|error| format!("clean={clean} file={} byte={place} bit={bit}: {error}", path.display()))
    }
}

/// Flips bits in all headers and at random; how many flips were named.
pub fn flip_everywhere(seed: u64, flips: usize) -> Verdict<usize> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut detected = 0;
    for clean in [true, false] {
        let stored = make(seed, clean)?;
        for path in stored.names() {
            let length = stored.work.files.content(&path).len();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let headers: Vec<_> = match &*name {
                MANIFEST => (0..length).step_by(97).collect(),
                name if name.starts_with("base-") => (0..100).chain(length - base::FOOTER_BYTES..length).collect(),
                _ => (0..segment::HEADER_BYTES + 2 * FRAME_BYTES).collect(),
            };
            for place in headers {
                let place = place.min(length - 1);
                detected += usize::from(
                    stored.flip(&path, place, chance.random_range(0..8)).map_err(|e| format!("seed={seed} {e}"))?,
                );
            }
        }
        let names = stored.names();
        for _ in 0..flips {
            let path = &names[chance.random_range(0..names.len())];
            let place = chance.random_range(0..stored.work.files.content(path).len());
            detected += usize::from(
                stored.flip(path, place, chance.random_range(0..8)).map_err(|e| format!("seed={seed} {e}"))?,
            );
        }
    }
    Ok(detected)
}

/// One flipped bit made other stores lose two thirds of their records in silence.
#[test]
fn every_flipped_bit_is_named_or_harmless() {
    let named = flip_everywhere(3, soak(RANDOM_FLIPS)).unwrap_or_else(|error| panic!("{error}"));
    assert!(named > 500, "named={named}");
}

/// Backups restored by hand leave files short, swapped, missing or foreign.
#[test]
fn cut_swapped_and_missing_files_are_named_or_harmless() {
    let seed = 5;
    for clean in [true, false] {
        let stored = make(seed, clean).unwrap();
        let names = stored.names();
        // Where a whole segment is exchanged for zeros, or the last frames are lost
        // together, only MANIFEST still knows how far the tail went.
        let (manifest, _) = Manifest::read(&stored.work.files, Path::new(DIR)).unwrap();
        let known = stored.work.issued.iter().take_while(|issued| issued.sequence <= manifest.durable).count();
        let known = if clean { stored.least } else { known };
        for (index, path) in names.iter().enumerate() {
            let place = |what: &str, error: String| -> ! {
                panic!("seed={seed} clean={clean} {what} {}: {error}", path.display())
            };
            let content = stored.work.files.content(path);
            for length in (0..content.len()).step_by(512) {
                let disk = stored.work.files.crash(Crash::Lost);
                disk.damage(path, |content| content.truncate(length));
                stored.judge(&disk).unwrap_or_else(|error| place("cut", error));
            }
            let disk = stored.work.files.crash(Crash::Lost);
            disk.remove_file(path).unwrap();
            match Log::open(Arc::new(disk.clone()), Path::new(DIR), small()) {
                Err(error) if error.kind() == ErrorKind::NotFound && path.ends_with(MANIFEST) => {
                    let created = super::basics::try_create(&disk);
                    assert_eq!(created.unwrap_err().kind(), ErrorKind::Damaged, "records without MANIFEST");
                }
                opened => assert_eq!(opened.unwrap_err().kind(), ErrorKind::Damaged, "missing {}", path.display()),
            }
            for other in &names[index + 1..] {
                let disk = stored.work.files.crash(Crash::Lost);
                let second = stored.work.files.content(other);
                disk.damage(path, |content| content.clone_from(&second));
                disk.damage(other, |bytes| bytes.clone_from(&content));
                stored.judge_beyond(&disk, known).unwrap_or_else(|error| place("swapped", error));
            }
            for start in (0..content.len().saturating_sub(1_024)).step_by(512) {
                let disk = stored.work.files.crash(Crash::Lost);
                disk.damage(path, |content| content.copy_within(start..start + 512, start + 512));
                stored.judge_beyond(&disk, known).unwrap_or_else(|error| place("doubled", error));
            }
        }
    }
}

/// A MANIFEST of another database must not make opening take the segments for torn and cut them away.
#[test]
fn files_of_another_database_are_refused_untouched() {
    let stored = make(9, false).unwrap();
    let fresh = SimulatedFiles::new(1);
    fresh.create_dir_all(Path::new("/disk")).unwrap();
    let identity = Identity { database: *b"another database", ..IDENTITY };
    Log::create(Arc::new(fresh.clone()), Path::new(DIR), small(), identity).unwrap();
    let foreign = fresh.content(&Path::new(DIR).join(MANIFEST));
    let disk = stored.work.files.crash(Crash::Lost);
    let segments: Vec<_> = stored.names().into_iter().filter(|path| !path.ends_with(MANIFEST)).collect();
    let first = segments.iter().find(|path| path.to_string_lossy().contains("segment-")).unwrap();
    let one = Path::new(DIR).join(segment::file_name(1));
    disk.rename(first, &one).unwrap();
    disk.damage(&Path::new(DIR).join(MANIFEST), |content| content.clone_from(&foreign));
    let before = disk.content(&one);
    let refused = Log::open(Arc::new(disk.clone()), Path::new(DIR), small()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged);
    assert_eq!(disk.content(&one), before);
    assert_eq!(disk.operations(), 0);
}

/// MANIFEST is small and everything hangs on it: each of its bits.
#[test]
fn every_bit_of_manifest_is_guarded() {
    let stored = make(7, true).unwrap();
    let path = Path::new(DIR).join(MANIFEST);
    let content = stored.work.files.content(&path);
    let (expected, repaired) = Manifest::read(&stored.work.files, Path::new(DIR)).unwrap();
    assert!(!repaired);
    let files = SimulatedFiles::new(1);
    files.create_dir_all(Path::new(DIR)).unwrap();
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    for bit in 0..content.len() * 8 {
        let mut flipped = content[bit / 8..=bit / 8].to_vec();
        flipped[0] ^= 1 << (bit % 8);
        if bit == 0 {
            file.write_at(&content, 0).unwrap();
        }
        file.write_at(&flipped, bit as u64 / 8).unwrap();
        let read = Manifest::read(&files, Path::new(DIR)).unwrap();
        assert_eq!(read, (expected.clone(), true), "bit={bit}");
        file.write_at(&content[bit / 8..=bit / 8], bit as u64 / 8).unwrap();
    }
}

/// Whoever stores a copy of a log file as a value must not be able to make a torn end look like damage, or
/// damage like a torn end.
pub fn copied_frames(seed: u64) -> Verdict {
    let files = SimulatedFiles::new(seed);
    let log = super::basics::create(&files, small());
    let synced = Position { segment: 99, offset: 99 };
    let frame =
        Frame { length: 8, synced, checksum: 0 }.encode(b"another database", Position { segment: 99, offset: 8 });
    // A stride of 33 puts a copy on every alignment.
    let value: Vec<u8> = (0..30).flat_map(|_| frame.iter().copied().chain([0])).collect();
    log.append(&[put("first", b"1", 1)]).and_then(|_| log.sync()).map_err(|error| error.to_string())?;
    log.append(&[put("copy", &value, 1)]).map_err(|error| error.to_string())?;
    for torn in 0..20 {
        let disk = files.crash(Crash::Torn(seed * 100 + torn));
        Log::open(Arc::new(disk), Path::new(DIR), small())
            .map_err(|error| format!("seed={seed} torn={torn}: {error}"))?;
    }
    Ok(())
}

#[test]
fn frames_inside_values_mean_nothing() {
    copied_frames(1).unwrap_or_else(|error| panic!("{error}"));
}
