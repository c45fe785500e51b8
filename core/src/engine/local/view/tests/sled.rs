//! sled directories that are damaged, half written or in use.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::local::view::block::{INLINE_BYTES, block_place, part_key};
use crate::engine::local::view::directory::{next as next_directory, quarantine, remove_leftovers};
use crate::engine::local::view::extents::Extent;
use crate::engine::local::view::rebuild::rebuild;
use crate::engine::{Direction, KeyRange, KeyValue, MAX_KEY_BYTES};
use crate::env::files::SystemFiles;
use crate::error::{Error, ErrorKind};

fn open(dir: &Path, state: StoreState) -> View {
    View::open(Some(dir), options(), state).unwrap()
}

fn everything(view: &View) -> Result<Vec<KeyValue>> {
    let mut all: Vec<KeyValue> = Vec::new();
    let mut range = KeyRange::prefix(b"");
    loop {
        let page = view.snapshot().scan(&range, Direction::Forward, 1_000)?;
        let Some(last) = page.last() else { return Ok(all) };
        range.start = super::super::store::behind(&last.key);
        all.extend(page);
    }
}

/// A directory with a few segments of content, cleanly closed.
fn fill(dir: &Path) -> (Manifest, Vec<KeyValue>) {
    let (view, manifest) = (open(dir, StoreState::Empty), Manifest::default());
    let mut random = StdRng::seed_from_u64(1);
    for sequence in 1..=40 {
        let mut writes = Vec::new();
        for _ in 0..40 {
            let value: Vec<u8> = (0..random.random_range(1..900)).map(|_| random.random()).collect();
            writes.push(put(&random.random::<u16>().to_be_bytes(), &value));
        }
        writes.push(put(b"large", &vec![sequence as u8; 10_000]));
        writes.sort_by(|one, other| one.key().cmp(other.key()));
        writes.dedup_by(|one, other| one.key() == other.key());
        commit(&view, sequence, writes);
        if sequence % 8 == 0 {
            drained(&view, &manifest);
        }
    }
    let all = everything(&view).unwrap();
    view.close(LONG).unwrap();
    (manifest, all)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Whether damage was noticed; the content is right where it was not.
fn noticed(dir: &Path, state: StoreState, expected: &[KeyValue], story: &str) -> bool {
    let view = match View::open(Some(dir), options(), state) {
        Ok(view) => view,
        Err(abandoned) => {
            println!("{story}: open: {abandoned}");
            return true;
        }
    };
    match view.verify() {
        Ok(_) => {
            assert!(everything(&view).unwrap() == expected, "{story}: wrong content went unnoticed");
            println!("{story}: right");
            view.close(LONG).unwrap();
            false
        }
        Err(error) => {
            println!("{story}: check: {error}");
            assert!(view.abandoned().is_some(), "{story}");
            true
        }
    }
}

/// Any damage is noticed or without effect; opening never panics out and never hangs.
#[test]
fn a_damaged_directory_is_abandoned_not_believed() {
    let scratch = tempfile::tempdir().unwrap();
    let sound = scratch.path().join("view-1");
    let (manifest, expected) = fill(&sound);
    let mut random = StdRng::seed_from_u64(2);
    for (name, least) in [("db", 5), ("blocks", 12)] {
        let damages = damages(&fs::read(sound.join(name)).unwrap(), &mut random);
        let mut caught = 0;
        for (number, (story, bytes)) in damages.iter().enumerate() {
            let dir = scratch.path().join(format!("damaged-{name}-{number}"));
            copy(&sound, &dir);
            fs::write(dir.join(name), bytes).unwrap();
            caught += usize::from(noticed(&dir, manifest.state(), &expected, &format!("{name} {story}")));
        }
        println!("seed=2 file={name} damages={} noticed={caught}", damages.len());
        assert!(caught >= least, "file={name} caught={caught}: whole files were exchanged");
    }
}

/// `data` cut, exchanged, and with damage in one place.
fn damages(data: &[u8], random: &mut StdRng) -> Vec<(String, Vec<u8>)> {
    let mut damages: Vec<(String, Vec<u8>)> = vec![("emptied".into(), Vec::new())];
    for length in [1, 20, 4_096, 512 << 10, data.len() / 2, data.len() - 512] {
        damages.push((format!("cut to {length}"), data[..length.min(data.len())].to_vec()));
    }
    damages.push(("garbage".into(), (0..data.len()).map(|_| random.random()).collect()));
    for _ in 0..12 {
        let (mut bytes, at) = (data.to_vec(), random.random_range(0..data.len() - 4_096));
        if random.random() {
            bytes[at] ^= 1 << random.random_range(0..8);
            damages.push((format!("flipped at {at}"), bytes));
        } else {
            bytes[at..at + 4_096].fill(0);
            damages.push((format!("zeroed at {at}"), bytes));
        }
    }
    damages
}

/// Missing and foreign files.
#[test]
fn a_directory_with_missing_parts_is_abandoned_or_right() {
    let scratch = tempfile::tempdir().unwrap();
    let sound = scratch.path().join("view-1");
    let (manifest, expected) = fill(&sound);
    let names: Vec<_> = fs::read_dir(&sound).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in names {
        for garbage in [false, true] {
            let dir = scratch.path().join(format!("without-{}-{garbage}", name.display()));
            copy(&sound, &dir);
            let gone = dir.join(&name);
            if gone.is_dir() {
                fs::remove_dir_all(&gone).unwrap();
            } else {
                fs::remove_file(&gone).unwrap();
            }
            if garbage {
                fs::write(&gone, b"garbage").unwrap();
            }
            let story = format!("{} garbage={garbage}", name.display());
            let caught = noticed(&dir, manifest.state(), &expected, &story);
            assert!(caught || name != "db" && name != "blocks", "{story}: no data and no notice");
        }
    }
    let file = scratch.path().join("file");
    fs::write(&file, b"not a directory").unwrap();
    assert!(View::open(Some(&file), options(), StoreState::Empty).is_err());
    assert!(View::open(Some(&sound), options(), StoreState::Empty).is_err(), "a new view over old content");
}

/// A crash inside an earlier open leaves a snapshot half written, which sled alone never gets over.
#[test]
fn a_half_written_snapshot_does_not_matter() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (manifest, expected) = fill(&dir);
    fs::write(dir.join("snap.ffffffffffffffff.generating"), b"half").unwrap();
    assert!(!noticed(&dir, manifest.state(), &expected, "half-written snapshot"));
}

/// A crash behind the last write of a drain: the next life repeats it, sweeps up the parts that the
/// crash left unnamed, and believes the result only after a comparison.
#[test]
fn a_drain_is_repeated_after_a_crash() {
    struct Crashes(Manifest);
    impl CheckpointLog for Crashes {
        fn draining(&self, to: Sequence, digest: Digest) -> Result<()> {
            self.0.draining(to, digest)
        }
        fn drained(&self, _: Sequence, _: Digest) -> Result<()> {
            Err(Error::new(ErrorKind::Unavailable, "the power went"))
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (view, log) = (open(&dir, StoreState::Empty), Crashes(Manifest::default()));
    let records = [vec![put(b"a", b"1"), put(b"large", &[1; 9_000])], vec![delete(b"a"), put(b"large", &[2; 20])]];
    let apply = |view: &View| {
        for (sequence, writes) in (1..).zip(records.clone()) {
            commit(view, sequence, writes);
        }
    };
    apply(&view);
    assert!(view.checkpoint(&log).is_err());
    assert_eq!(view.digest(), None);
    view.close(LONG).unwrap();
    let raw = ::sled::open(&dir).unwrap();
    fs::File::options().append(true).open(dir.join("blocks")).unwrap().set_len(3 << 20).unwrap();
    for (number, place) in (1..).zip([part_key(b"large", 1), part_key(b"gone", 0)]) {
        raw.insert(place, &Extent { at: number << 20, length: 100 }.to_bytes()).unwrap();
    }
    drop(raw);
    let (view, manifest) = (open(&dir, log.0.state()), log.0);
    assert_eq!(view.checkpoint(&manifest).unwrap_err().kind(), ErrorKind::Internal, "the log was not applied yet");
    apply(&view);
    assert_eq!(drained(&view, &manifest), 2);
    assert!(view.verify().unwrap());
    assert_eq!(everything(&view).unwrap().len(), 1);
    view.close(LONG).unwrap();
    assert_eq!(::sled::open(&dir).unwrap().iter().count(), 1, "a part that no entry names was left behind");
}

/// A power cut in the middle of a drain: sled's file is as at the checkpoint before, while all that the drain wrote beside it
/// is there. Nothing that the checkpoint names may be written over by then.
#[test]
fn blocks_of_a_drain_leave_those_of_the_checkpoint_before_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, before) = (scratch.path().join("view-1"), scratch.path().join("view-2"));
    let (view, manifest) = (open(&dir, StoreState::Empty), Manifest::default());
    // Each is a block of its own, and more of them than are made together.
    let round = |view: &View, first: u64| {
        for part in 0..30_u64 {
            let keys = (0..100).map(|number| (part * 100 + number).to_be_bytes());
            commit(view, first + part, keys.map(|key| put(&key, &[(first % 251) as u8; 2_500])).collect());
        }
    };
    round(&view, 1);
    drained(&view, &manifest);
    let expected = everything(&view).unwrap();
    view.close(LONG).unwrap();
    copy(&dir, &before);
    let state = manifest.state();
    let view = open(&dir, state);
    round(&view, 31);
    drained(&view, &manifest);
    view.close(LONG).unwrap();
    fs::copy(dir.join("blocks"), before.join("blocks")).unwrap();
    assert!(!noticed(&before, state, &expected, "newer blocks"));
}

/// sled cannot go on after a write that found no room, so a drain begins only where there is enough. Small changes far apart
/// take the most: each writes a block, and the one before goes with the next flush.
#[test]
fn a_drain_takes_no_more_room_than_it_speaks_for() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (view, manifest) = (open(&dir, StoreState::Empty), Manifest::default());
    let bytes = || {
        let lengths = ["db", "blocks"].map(|name| fs::metadata(dir.join(name)).map_or(0, |file| file.len()));
        lengths.iter().sum::<u64>()
    };
    let large = [7; 2_100];
    let rounds: [(&[u8], &[u8]); 4] = [(b"", &large), (b"+", b""), (b"+", b"1"), (b"", &large)];
    let mut takes = Vec::new();
    for (sequence, (behind, value)) in (1..).zip(rounds) {
        let keys = (0..8_000_u32).map(|number| [&number.to_be_bytes()[..], behind].concat());
        commit(&view, sequence, keys.map(|key| put(&key, value)).collect());
        let (before, room) = (bytes(), view.drain_room());
        drained(&view, &manifest);
        takes.push((bytes().saturating_sub(before), room));
    }
    println!("taken, room: {takes:?}");
    assert!(takes.iter().all(|(taken, room)| taken <= room), "{takes:?}");
    view.close(LONG).unwrap();
}

/// The files as a killed process leaves them, caught at random moments of a drain: the next life comes
/// to the right content or gives the directory up.
#[test]
fn a_directory_caught_in_the_middle_of_a_drain_is_repaired_or_abandoned() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (view, manifest) = (open(&dir, StoreState::Empty), Manifest::default());
    let mut log = Vec::new();
    for round in 0..12_u64 {
        let numbers = (0..400_u64).filter(|number| (number + round) % 3 > 0);
        let writes = numbers.map(|number| match (number + round) % 7 {
            0 => delete(&number.to_be_bytes()),
            1 => put(&number.to_be_bytes(), &vec![round as u8; 7_000]),
            _ => put(&number.to_be_bytes(), &[round as u8; 200]),
        });
        log.push(writes.collect::<Vec<_>>());
    }
    let done = AtomicBool::new(false);
    let copies = thread::scope(|scope| {
        let copier = scope.spawn(|| {
            let mut copies = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let before = manifest.state();
                let target = scratch.path().join(format!("copy-{}", copies.len()));
                copy(&dir, &target);
                // A manifest of before its drain knows nothing of what the copy holds.
                if before == manifest.state() && before != StoreState::Empty {
                    copies.push((target, before));
                } else {
                    fs::remove_dir_all(&target).unwrap();
                }
            }
            copies
        });
        for (sequence, writes) in (1..).zip(&log) {
            commit(&view, sequence, writes.clone());
            drained(&view, &manifest);
        }
        done.store(true, Ordering::Relaxed);
        copier.join().unwrap()
    });
    let expected = everything(&view).unwrap();
    let mut repaired = 0;
    for (dir, state) in copies.iter().rev().take(8) {
        repaired += usize::from(comes_to(&expected, dir, *state, &log));
    }
    println!("copies={} repaired={repaired}", copies.len());
}

/// Whether the store in `dir` comes to `expected` with the log behind it; else it was given up.
fn comes_to(expected: &[KeyValue], dir: &Path, state: StoreState, log: &[Vec<Write>]) -> bool {
    let manifest = Manifest(Mutex::new(state));
    let Ok(view) = View::open(Some(dir), options(), state) else { return false };
    let from = view.published();
    for (sequence, writes) in (1..).zip(log).filter(|(sequence, _)| *sequence > from) {
        commit(&view, sequence, writes.clone());
        let repeats = matches!(manifest.state(), StoreState::Draining { to, .. } if to == sequence);
        if (repeats || sequence == log.len() as u64) && view.checkpoint(&manifest).is_err() {
            return false;
        }
    }
    if view.verify().is_err() {
        return false;
    }
    assert!(everything(&view).unwrap() == expected, "{state:?}");
    view.close(LONG).unwrap();
    true
}

/// A store that never answers must cost the process a thread, not its life or the writer's.
#[test]
fn a_store_that_does_not_answer_in_time_is_abandoned() {
    let scratch = tempfile::tempdir().unwrap();
    let options = ViewOptions { store_deadline: Duration::ZERO, ..options() };
    let view = View::open(Some(&scratch.path().join("view-1")), options, StoreState::Empty).unwrap();
    let manifest = Manifest::default();
    // A thread may answer before it is waited for, so one attempt proves nothing.
    let failed = (1..1_000).find_map(|sequence| {
        commit(&view, sequence, vec![put(b"k", &[7; 100_000])]);
        view.checkpoint(&manifest).err()
    });
    assert_eq!(failed.unwrap().kind(), ErrorKind::Unavailable);
    assert!(view.abandoned().unwrap().reason.contains("did not answer"));
    assert!(view.verify().is_err() && view.wait_for_room(LONG).is_err());
    view.close(LONG).unwrap();
}

/// sled frees its lock late; closing must wait, or every quick restart fails.
#[test]
fn a_closed_view_opens_again_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (manifest, expected) = fill(&dir);
    for round in 0..5 {
        let view = open(&dir, manifest.state());
        assert!(everything(&view).unwrap() == expected, "round={round}");
        view.close(LONG).unwrap();
        assert!(view.get(b"large").is_err());
    }
}

/// Values around every border of splitting, under keys of every kind, grown, shrunk and removed.
#[test]
fn split_values_come_back_whole_and_leave_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (view, manifest) = (open(&dir, StoreState::Empty), Manifest::default());
    let sizes =
        [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 2 * INLINE_BYTES, 2 * INLINE_BYTES + 1, 1 << 20];
    let keys: [&[u8]; 6] = [b"", b"\0", b"p", b"p\0\0", b"\xff\xff", &[0xff; MAX_KEY_BYTES]];
    let mut sequence = 0;
    for round in 0..sizes.len() {
        for (number, key) in keys.iter().enumerate() {
            sequence += 1;
            let size = sizes[(number + round * 3) % sizes.len()];
            commit(&view, sequence, vec![put(key, &vec![round as u8; size])]);
        }
        let before = everything(&view).unwrap();
        drained(&view, &manifest);
        assert_eq!(before.len(), keys.len());
        assert!(everything(&view).unwrap() == before, "round={round}: the drain changed what readers see");
        for entry in before {
            assert_eq!(value_of(&view, &entry.key).unwrap(), entry.value, "round={round}");
        }
        assert!(view.verify().unwrap());
    }
    commit(&view, sequence + 1, keys.iter().map(|key| delete(key)).collect());
    drained(&view, &manifest);
    assert_eq!(view.digest(), Some((sequence + 1, Digest::default())));
    view.close(LONG).unwrap();
    assert_eq!(fs::read_dir(dir.join("blobs")).unwrap().count(), 0);
    let raw = ::sled::open(&dir).unwrap();
    assert_eq!(raw.iter().count(), 0, "parts were left behind");
}

/// The longest keys and values that are not split, side by side, must not make a leaf outgrow its place.
#[test]
fn the_largest_leaves_stay_out_of_files_of_their_own() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (view, manifest) = (open(&dir, StoreState::Empty), Manifest::default());
    for sequence in 1..=120_u64 {
        // The place of a block is longer than its start where that has long runs of 255.
        let mut key = vec![255; MAX_KEY_BYTES];
        key[..8].copy_from_slice(&sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        commit(&view, sequence, vec![put(&key, &[7; INLINE_BYTES])]);
        if sequence % 16 == 0 {
            drained(&view, &manifest);
        }
    }
    drained(&view, &manifest);
    assert!(view.verify().unwrap());
    view.close(LONG).unwrap();
    assert_eq!(fs::read_dir(dir.join("blobs")).unwrap().count(), 0);
}

/// Entries that move to a new block while it is split must not be passed over by a reader that is just there, nor read
/// twice; backwards it meets the border between two leaves from the other side.
#[test]
fn a_scan_misses_nothing_while_blocks_are_split() {
    let scratch = tempfile::tempdir().unwrap();
    let (view, manifest) = (open(&scratch.path().join("view-1"), StoreState::Empty), Manifest::default());
    let key = |number: u64| (number * 1_000).to_be_bytes();
    commit(&view, 1, (0..1_000).map(|number| put(&key(number), &[1; 100])).collect());
    drained(&view, &manifest);
    let done = AtomicBool::new(false);
    let expected: Vec<_> = (0..1_000).map(|number| Bytes::copy_from_slice(&key(number))).collect();
    let scans = thread::scope(|scope| {
        let readers = [Direction::Forward, Direction::Backward].map(|direction| {
            let (view, done, expected) = (&view, &done, &expected);
            scope.spawn(move || {
                let mut scans = 0;
                while !done.load(Ordering::Relaxed) {
                    let mut range = KeyRange::prefix(b"");
                    let mut old = Vec::new();
                    loop {
                        let page = view.snapshot().scan(&range, direction, 200).unwrap();
                        let Some(last) = page.last() else { break };
                        match direction {
                            Direction::Forward => range.start = super::super::store::behind(&last.key),
                            Direction::Backward => range.end = Some(last.key.clone()),
                        }
                        let keys = page.into_iter().map(|entry| entry.key);
                        old.extend(keys.filter(|key| expected.binary_search(key).is_ok()));
                    }
                    if direction == Direction::Backward {
                        old.reverse();
                    }
                    assert!(old == *expected, "{direction:?}: {} of {}", old.len(), expected.len());
                    scans += 1;
                }
                scans
            })
        });
        let drains = (2..20_u64).map(|sequence| {
            let between = (0..1_000).map(|number| put(&(number * 1_000 + sequence).to_be_bytes(), &[2; 100]));
            commit(&view, sequence, between.collect());
            drained_beside_readers(&view, &manifest)
        });
        let ended = drains.last();
        done.store(true, Ordering::Relaxed);
        assert_eq!(ended.unwrap().unwrap(), Checkpoint::At(19));
        readers.map(|reader| reader.join().unwrap())
    });
    assert!(view.verify().unwrap());
    println!("scans={scans:?}");
}

/// What a drain leaves free is written over by the next ones, or the file would grow for ever; a reader that found a block
/// just before must not read what lies there then.
#[test]
fn blocks_are_written_over_and_never_under_a_reader() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (view, manifest) = (open_without_cache(&dir), Manifest::default());
    let key = |number: u64| number.to_be_bytes();
    // Neighbours of what is changed move along, and no memtable hides them from the readers.
    let some = |sequence: u64, step| (sequence % step..60).step_by(step as usize);
    let round = |sequence, step| some(sequence, step).map(|number| put(&key(number), &[sequence as u8; 900])).collect();
    commit(&view, 1, round(1, 1));
    drained(&view, &manifest);
    let once = fs::metadata(dir.join("blocks")).unwrap().len();
    let done = AtomicBool::new(false);
    let reads = thread::scope(|scope| {
        let readers = [0, 30].map(|from| {
            let (view, done) = (&view, &done);
            scope.spawn(move || {
                let mut reads = 0;
                for number in (0..60).cycle().skip(from) {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let value = view.get(&key(number)).unwrap().unwrap().value;
                    assert!(value.len() == 900 && value.iter().all(|byte| *byte == value[0]));
                    reads += 1;
                }
                reads
            })
        });
        let drains = (2..=150).map(|sequence| {
            commit(&view, sequence, round(sequence, 2));
            drained_beside_readers(&view, &manifest)
        });
        let ended = drains.last();
        done.store(true, Ordering::Relaxed);
        assert_eq!(ended.unwrap().unwrap(), Checkpoint::At(150));
        readers.map(|reader| reader.join().unwrap())
    });
    assert!(view.verify().unwrap());
    let after = fs::metadata(dir.join("blocks")).unwrap().len();
    println!("reads={reads:?} once={once} after={after}");
    assert!(after <= 3 * once, "{once} bytes became {after}");
    view.close(LONG).unwrap();
}

/// Drains all that was committed; the snapshots of readers may put that off.
fn drained_beside_readers(view: &View, manifest: &Manifest) -> Result<Checkpoint> {
    loop {
        match view.checkpoint(manifest) {
            Ok(Checkpoint::Postponed) => {}
            ended => return ended,
        }
    }
}

fn open_without_cache(dir: &Path) -> View {
    View::open(Some(dir), ViewOptions { cache_bytes: 0, ..options() }, StoreState::Empty).unwrap()
}

/// A power cut between the two writes of a split leaves its entries in both blocks; each is read once, and the next
/// drain of that block puts it right.
#[test]
fn a_split_that_was_cut_short_shows_each_entry_once() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (view, manifest) = (open(&dir, StoreState::Empty), Manifest::default());
    let numbers = |range: std::ops::Range<u8>| range.map(|number| put(&[number], &[number; 210]));
    commit(&view, 1, numbers(0..17).collect());
    drained(&view, &manifest);
    view.close(LONG).unwrap();
    let raw = ::sled::open(&dir).unwrap();
    let before = raw.get(block_place(&[0])).unwrap().expect("one block holds them");
    let before_bytes = Extent::from_bytes(&before).unwrap().length - 210;
    drop(raw);
    let view = open(&dir, manifest.state());
    commit(&view, 2, numbers(17..20).collect());
    drained(&view, &manifest);
    view.close(LONG).unwrap();
    let raw = ::sled::open(&dir).unwrap();
    assert_eq!(raw.iter().count(), 2, "the block was split");
    raw.insert(block_place(&[0]), before).unwrap();
    drop(raw);
    let view = open(&dir, manifest.state());
    let once = (0..20).map(|number| Bytes::copy_from_slice(&[number])).collect::<Vec<_>>();
    let keys = |direction| {
        let page = view.snapshot().scan(&KeyRange::prefix(b""), direction, 100).unwrap();
        page.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(Direction::Forward), once);
    assert_eq!(keys(Direction::Backward), once.iter().rev().cloned().collect::<Vec<_>>());
    assert!(view.verify().unwrap());
    commit(&view, 3, vec![put(&[3], b"new")]);
    drained(&view, &manifest);
    assert!(view.verify().unwrap());
    view.close(LONG).unwrap();
    let raw = ::sled::open(&dir).unwrap();
    let after = raw.get(block_place(&[0])).unwrap().unwrap();
    assert!(Extent::from_bytes(&after).unwrap().length < before_bytes, "the tail is gone");
}

/// Backwards over the border of two leaves sled guesses what the keys before it are at most; where keys go on behind that
/// guess, it must not turn in circles.
#[test]
fn keys_with_long_runs_of_255_are_read_backwards() {
    let scratch = tempfile::tempdir().unwrap();
    let (view, manifest) = (open(&scratch.path().join("view-1"), StoreState::Empty), Manifest::default());
    let keys = (0..60_u8).flat_map(|first| {
        let behind = (0..40_u8).map(move |last| vec![first, 255, 255, 255, 255, 255, last]);
        std::iter::once(vec![first]).chain(behind)
    });
    let keys: Vec<_> = keys.collect();
    commit(&view, 1, keys.iter().map(|key| put(key, &[1; 1_200])).collect());
    drained(&view, &manifest);
    let mut range = KeyRange::prefix(b"");
    let mut found = Vec::new();
    loop {
        let page = view.snapshot().scan(&range, Direction::Backward, 200).unwrap();
        let Some(last) = page.last() else { break };
        range.end = Some(last.key.clone());
        found.extend(page.into_iter().map(|entry| entry.key));
    }
    assert!(found.iter().rev().eq(&keys));
}

/// A directory of a form in which sled held the entries must be rebuilt, not taken for an empty one.
#[test]
fn entries_of_an_older_form_are_not_taken_for_none() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let raw = ::sled::open(&dir).unwrap();
    raw.insert(b"bkey", b"value").unwrap();
    raw.flush().unwrap();
    drop(raw);
    let abandoned = View::open(Some(&dir), options(), StoreState::Empty).unwrap_err();
    assert!(abandoned.to_string().contains("older form"), "{abandoned}");
}

/// An abandoned directory goes aside, its predecessor goes away, and the next one gets a new name.
#[test]
fn quarantine_keeps_the_newest_alone() {
    let scratch = tempfile::tempdir().unwrap();
    for number in 1..=2 {
        let dir = next_directory(&SystemFiles, scratch.path()).unwrap();
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("db"), [number]).unwrap();
        let after = next_directory(&SystemFiles, scratch.path()).unwrap();
        assert_eq!(after, scratch.path().join("view-2"));
        let aside = quarantine(&SystemFiles, &dir).unwrap();
        assert_eq!(fs::read(aside.join("db")).unwrap(), [number]);
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    let keep = scratch.path().join("view-7");
    for name in ["view-3", "view-7", "view-9"] {
        fs::create_dir(scratch.path().join(name)).unwrap();
    }
    remove_leftovers(&SystemFiles, scratch.path(), &keep).unwrap();
    assert!(keep.exists() && fs::read_dir(scratch.path()).unwrap().count() == 2);
}

/// A file going bad under a running view: reads answer rightly or not at all, the process lives, and
/// a new view is built beside the old one, whose handle is never given back.
#[test]
fn a_file_that_goes_bad_under_a_running_view_ends_the_view_alone() {
    for name in ["db", "blocks"] {
        goes_bad(name);
    }
}

fn goes_bad(name: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("view-1");
    let (manifest, expected) = fill(&dir);
    let options = ViewOptions { cache_bytes: 0, sled_cache_bytes: 256, ..options() };
    let view = View::open(Some(&dir), options, manifest.state()).unwrap();
    let length = fs::metadata(dir.join(name)).unwrap().len() as usize;
    fs::write(dir.join(name), vec![0x5a; length]).unwrap();
    let mut refused = 0;
    for entry in &expected {
        match view.get(&entry.key) {
            Ok(found) => assert_eq!(found.unwrap().value, entry.value),
            Err(_) => refused += 1,
        }
    }
    println!("reads={} refused={refused}", expected.len());
    assert!(refused > 0 && view.abandoned().is_some());
    assert!(view.verify().is_err());
    let StoreState::At { at, digest } = manifest.state() else { panic!("{manifest:?}") };
    let aside = quarantine(&SystemFiles, &dir).unwrap();
    let next = next_directory(&SystemFiles, scratch.path()).unwrap();
    let base = expected.iter().cloned().map(Ok);
    let (rebuilt, found) =
        rebuild(Some(&next), super::options(), at, base, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((found, rebuilt.published()), (digest, at));
    assert!(everything(&rebuilt).unwrap() == expected && rebuilt.verify().unwrap() && aside.exists());
    view.close(LONG).unwrap();
    rebuilt.close(LONG).unwrap();
}
