//! Opening: who may, what stands in the way, and what one sentence says about it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kappa_core::env::Env;
use kappa_core::{Durability, Error, ErrorKind, Kappa, Mode, Options};
use serde_json::json;

use crate::database::{self, open, small, things};
use crate::ending::EndingFiles;
use crate::worker::{Line, Orders, read_line};

/// A refusal of this kind, in one line that a person can act on and that says all of `words`.
fn refused(directory: &Path, kind: ErrorKind, words: &[&str]) -> Error {
    // Alone: otherwise it would share with the process that has the directory.
    let options = Options { mode: Mode::Owner, ..small() };
    refused_by(Kappa::open_with(directory, &options, &Env::default()), kind, words)
}

fn refused_by(opened: Result<Kappa, Error>, kind: ErrorKind, words: &[&str]) -> Error {
    let error = opened.expect_err("it must not open");
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(!text.contains(['\n', '{', '}']), "not a sentence: {text}");
    for word in words {
        assert!(text.contains(word), "{text} lacks {word}");
    }
    error
}

fn partition(directory: &Path) -> PathBuf {
    directory.join("partition-0000")
}

/// Two owners of one directory would each overwrite what the other has answered; a lock that outlives its
/// holder would keep the shop closed after every crash.
#[test]
fn crash_of_the_holder_frees_the_directory_for_another_process() {
    let place = tempfile::tempdir().unwrap();
    let orders = Orders { life: 1, ..Orders::new(place.path(), database::seed(11), 256) };
    let mut holder = orders.spawn();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut answers = |count: usize| {
        let answered = lines.by_ref().filter(|line| matches!(read_line(line), Some(Line::Answered { .. })));
        assert_eq!(answered.take(count).count(), count, "the holder works");
    };
    answers(5);
    let pid = format!("pid={}", holder.id());
    refused(place.path(), ErrorKind::Locked, &["another process", &pid]);
    answers(5);
    refused(place.path(), ErrorKind::Locked, &[&pid]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let kappa = open(place.path(), &small());
    let count = kappa.collection(database::THINGS).unwrap().count().wait().unwrap();
    assert!(count > 0, "what the holder wrote is there");
}

/// Two handles of one process would be two owners all the same.
#[test]
fn a_process_opens_a_directory_once() {
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &small());
    let pid = format!("pid={}", std::process::id());
    refused(place.path(), ErrorKind::Locked, &["this process", &pid]);
    things(&kappa).create(json!({"id": "a"})).wait().unwrap();
    kappa.close().unwrap();
    assert_eq!(things_count(&open(place.path(), &small())), 1);
}

fn things_count(kappa: &Kappa) -> u64 {
    kappa.collection(database::THINGS).unwrap().count().wait().unwrap()
}

/// A mistyped path must end in a sentence about the path, not in a half-made database.
#[test]
fn what_is_no_usable_directory_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, b"hello").unwrap();
    refused(&file, ErrorKind::Unavailable, &["the data directory is a file", "file"]);
    refused(&file.join("below"), ErrorKind::Unavailable, &["the data directory cannot be used"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"hello");
    // Nobody makes files here, not even a superuser, for whom a directory's mode is no obstacle.
    refused(Path::new("/proc/self"), ErrorKind::Unavailable, &["LOCK"]);
    refused(Path::new("/proc/self/kappa"), ErrorKind::Unavailable, &["/proc/self/kappa"]);
}

/// Two machines that share a directory could each own it, and none of them would notice; whoever knows better says so.
#[test]
fn a_network_file_system_is_refused_unless_it_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let env = Env { files: Arc::new(EndingFiles::on_network("nfs")), ..Env::default() };
    let words = ["network file system", "file_system=nfs", "set network_disk", "directory="];
    for mode in [Mode::Auto, Mode::Owner, Mode::Client] {
        let options = Options { mode, ..small() };
        let opened = Kappa::open_with(place.path().join("new/data"), &options, &env);
        refused_by(opened, ErrorKind::Unsupported, &words);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "a refusal leaves nothing behind");
    let kappa = Kappa::open_with(place.path(), &Options { network_disk: true, ..small() }, &env).unwrap();
    things(&kappa).create(json!({"id": "a"})).wait().unwrap();
    kappa.close().unwrap();
    assert_eq!(things_count(&open(place.path(), &small())), 1);
}

/// An older build that reads a newer directory as its own would destroy it.
#[test]
fn a_newer_format_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &small());
    things(&kappa).create(json!({"id": "a"})).wait().unwrap();
    kappa.close().unwrap();
    let path = partition(place.path()).join("MANIFEST");
    let written = std::fs::read(&path).unwrap();
    let mut newer = written.clone();
    for copy in newer.chunks_mut(4_096) {
        copy[5] += 1;
        let checksum = crc32c::crc32c(&copy[..4_092]);
        copy[4_092..].copy_from_slice(&checksum.to_be_bytes());
    }
    std::fs::write(&path, &newer).unwrap();
    refused(place.path(), ErrorKind::Unsupported, &["another format version", "found=2", "supported=1"]);
    assert_eq!(std::fs::read(&path).unwrap(), newer, "a refusal changes nothing");
    std::fs::write(&path, &written).unwrap();
    assert_eq!(things_count(&open(place.path(), &small())), 1);
}

/// A lost MANIFEST beside records must not be taken for a new database.
#[test]
fn records_without_a_manifest_are_damage() {
    let place = tempfile::tempdir().unwrap();
    let kappa = open(place.path(), &small());
    things(&kappa).create(json!({"id": "a"})).wait().unwrap();
    drop(kappa);
    let path = partition(place.path()).join("MANIFEST");
    let written = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    refused(place.path(), ErrorKind::Damaged, &["MANIFEST is missing", "offset=0"]);
    std::fs::write(&path, &written).unwrap();
    assert_eq!(things_count(&open(place.path(), &small())), 1);
}

/// Whoever deletes the view, or leaves nonsense in it, costs the next open some time and nobody a document.
#[test]
fn a_lost_or_broken_view_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let view = || {
        let mut names = std::fs::read_dir(partition(place.path())).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.is_dir() && path.join("store").exists() || path.is_dir()).unwrap()
    };
    for round in 0..3 {
        let kappa = open(place.path(), &small());
        let things = things(&kappa);
        let said = kappa.info().unwrap().recovery;
        assert_eq!(said.iter().any(|text| text.contains("rebuilt")), round > 0, "round={round} {said:?}");
        assert_eq!(things.count().wait().unwrap(), round * 40);
        for n in 0..40 {
            let id = format!("{round}-{n}");
            things.create(json!({"id": id, "n": n, "filling": "k".repeat(3_000)})).wait().unwrap();
        }
        assert_eq!(things.list().by("n").iter().count() as u64, (round + 1) * 40);
        kappa.close().unwrap();
        match round {
            0 => std::fs::remove_dir_all(view()).unwrap(),
            _ => scribble(&view()),
        }
    }
}

/// Overwrites the middle of the largest file below `directory`.
fn scribble(directory: &Path) {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut ahead = vec![directory.to_path_buf()];
    while let Some(next) = ahead.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { ahead.push(path) } else { found.push(path) }
        }
    }
    let largest = found.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let length = usize::try_from(largest.metadata().unwrap().len()).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(&largest).unwrap();
    file.write_all(&vec![0x6b; length / 2]).unwrap();
}

/// A leak of a lock, a thread or a checkpoint shows only after some rounds; a version that comes twice would
/// let an old compare-and-set pass.
#[test]
fn opening_and_closing_again_and_again_keeps_everything() {
    let place = tempfile::tempdir().unwrap();
    let mut newest = None;
    for round in 0..database::rounds(20) {
        let kappa = open(place.path(), &small());
        assert_eq!(kappa.info().unwrap().recovery, Vec::<String>::new(), "round={round}: the end before was clean");
        let things = things(&kappa);
        assert_eq!(things.count().wait().unwrap(), round);
        let entry = things.create(json!({"id": round.to_string()})).wait().unwrap();
        assert!(newest < Some(entry.version), "round={round}: {newest:?} {:?}", entry.version);
        newest = Some(entry.version);
        if round % 2 == 0 {
            // Dropping the last handle is a close.
            let clone = kappa.clone();
            drop(kappa);
            assert_eq!(things_count(&clone), round + 1);
            continue;
        }
        kappa.close().unwrap();
        kappa.close().unwrap();
        let closed = |kind: ErrorKind| assert_eq!(kind, ErrorKind::Closed, "round={round}");
        closed(things.create(json!({})).wait().unwrap_err().kind());
        closed(things.get("0").wait().unwrap_err().kind());
        closed(kappa.info().unwrap_err().kind());
        closed(kappa.feed(kappa_core::FeedStart::Now).wait().unwrap_err().kind());
    }
}

/// A caller who asked for two copies and silently got one would learn it from a dead disk.
#[test]
fn a_durability_that_one_directory_cannot_give_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let replicated = Options { durability: Durability::Replicated, ..small() };
    let error = Kappa::open_with(place.path(), &replicated, &Env::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("durability=replicated"), "{error}");
    for durability in [Durability::Written, Durability::Synced] {
        let kappa = open(place.path(), &Options { durability, ..small() });
        assert_eq!(kappa.info().unwrap().durability, durability.name());
    }
}
