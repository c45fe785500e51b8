//! Damage: flipped bits, cut and missing files, blocks in the wrong place.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::engine::Engine;
use crate::engine::local::LocalEngine;
use crate::env::files::Files;
use crate::env::files::simulated::{Crash, SimulatedFiles};
use crate::error::ErrorKind;

use super::disk::{self, PARTITION, Place, simulated};
use super::oracle::{Bounds, Oracle, Verdict, told};
use super::workload::{Run, plan};
use super::{processors, soak};

const SEED: u64 = 97;
/// At least the header bytes of segments and bases, and of the copies of MANIFEST; and as many at their ends.
const EDGE: usize = 208;

/// One thing that is wrong with one file.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// This bit of this byte.
    Flip(usize, u8),
    /// The file ends here.
    Cut(usize),
    /// A block stands where another one was.
    Moved { from: usize, to: usize },
    /// The file is gone.
    Missing,
}

impl Damage {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::Flip(at, bit) => content[at] ^= 1 << bit,
            Self::Cut(length) => content.truncate(length),
            Self::Moved { from, to } => content.copy_within(from..from + 512, to),
            Self::Missing => {}
        }
    }
}

/// A directory as its last process left it.
#[derive(Debug)]
pub struct Sound {
    files: SimulatedFiles,
    oracle: Oracle,
    /// Operations before the last group.
    least: usize,
    closed: bool,
}

/// How damage came out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Opening was refused.
    pub refused: usize,
    /// The feed was refused, everything else was right.
    pub feed_refused: usize,
    /// The last group was cut, and this was reported.
    pub cut: usize,
    /// Everything was right.
    pub right: usize,
}

/// Runs a workload and ends it, in order or not.
pub fn sound(operations: usize, closed: bool) -> Sound {
    let mut run = Run::start(Place::memory(disk::new_files(SEED))).unwrap();
    for step in plan(SEED, operations) {
        run.step(&step).unwrap();
    }
    let least = run.moments.iter().rev().map(|(_, bounds)| bounds.least).find(|least| *least < run.acknowledged);
    let engine = run.engine.take().unwrap();
    if closed {
        engine.close(Duration::from_mins(1)).unwrap();
    }
    Sound { files: run.place.files, oracle: run.oracle, least: least.unwrap(), closed }
}

impl Sound {
    /// All damages: every byte of every header, `random` places, cuts, and the absence of each file.
    pub fn damages(&self, random: usize) -> Vec<(String, Damage)> {
        let mut chance = StdRng::seed_from_u64(SEED);
        let mut damages = Vec::new();
        let mut sizes = Vec::new();
        for name in self.files.list(&simulated("")).unwrap() {
            let content = self.files.content(&simulated(&name));
            let size = content.len();
            // The last record of a segment stands before its zeros.
            let used = content.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
            let edges = (0..size.min(EDGE)).chain(4_090..size.min(4_096 + EDGE));
            let edges = edges.chain(used.saturating_sub(EDGE)..used).chain(size.saturating_sub(EDGE)..size);
            for at in edges {
                damages.push((name.clone(), Damage::Flip(at, chance.random_range(0..8))));
            }
            for length in [0, 1, 64, 127, 128, size / 2, size.saturating_sub(1)] {
                damages.push((name.clone(), Damage::Cut(length.min(size))));
            }
            damages.push((name.clone(), Damage::Missing));
            sizes.push((name, size, used));
        }
        for number in 0..random {
            let (name, size, used) = &sizes[chance.random_range(0..sizes.len())];
            let damage = if number % 8 == 0 && *size > 2_048 {
                let mut block = || 512 * chance.random_range(0..size / 512 - 1);
                Damage::Moved { from: block(), to: block() }
            } else {
                let end = if number % 2 == 0 { *size } else { *used };
                Damage::Flip(chance.random_range(0..end), chance.random_range(0..8))
            };
            damages.push((name.clone(), damage));
        }
        damages
    }

    /// Opens the directory with one damage.
    pub fn judge(&self, name: &str, damage: Damage, counts: &mut Counts) -> Verdict<()> {
        let files = self.files.crash(Crash::Killed);
        let path = simulated(name);
        if matches!(damage, Damage::Missing) {
            files.remove_file(&path).unwrap();
            files.sync_dir(&simulated("")).unwrap();
        } else {
            files.damage(&path, |content| damage.apply(content));
        }
        let (engine, report) = match Place::memory(files).open() {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::Damaged => {
                counts.refused += 1;
                return if error.to_string().contains("file=") { Ok(()) } else { Err(told(&error)) };
            }
            Err(error) => return Err(format!("refused with the wrong kind: {}", told(&error))),
        };
        let all = self.oracle.len();
        let least = if self.closed { all } else { self.least };
        let prefix = self.prefix(&engine, least)?;
        if prefix < all && !report.findings.iter().any(|finding| finding.contains("was cut")) {
            return Err(format!("operations={prefix} of {all}, and nobody was told"));
        }
        match engine.history(engine.oldest(), usize::MAX) {
            Ok(_) => drop(self.oracle.examine(&engine, Bounds { least: prefix, most: prefix }).or_else(|broken| {
                // Damage that is met later in the same walk.
                if broken.starts_with("damaged") { Ok(prefix) } else { Err(broken) }
            })?),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                counts.feed_refused += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("the feed is refused with the wrong kind: {}", told(&error))),
        }
        *(if prefix < all { &mut counts.cut } else { &mut counts.right }) += 1;
        Ok(())
    }

    fn prefix(&self, engine: &LocalEngine, least: usize) -> Verdict<usize> {
        let mut verdict = Ok(());
        for prefix in (least..=self.oracle.len()).rev() {
            match self.oracle.examine_state(engine, prefix) {
                Ok(()) => return Ok(prefix),
                Err(broken) => verdict = verdict.and(Err(broken)),
            }
        }
        verdict.map(|()| self.oracle.len())
    }
}

/// Looks at damages on all processors.
fn judge_all(sound: &Sound, random: usize) -> Counts {
    let damages = sound.damages(random);
    let threads = processors();
    let work = |share: usize| {
        let mut counts = Counts::default();
        for (name, damage) in damages.iter().skip(share).step_by(threads) {
            if let Err(broken) = sound.judge(name, *damage, &mut counts) {
                panic!("seed={SEED} closed={} file={name} {damage:?}: {broken}", sound.closed);
            }
        }
        counts
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|share| scope.spawn(move || work(share))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).fold(
            Counts::default(),
            |one, other| Counts {
                refused: one.refused + other.refused,
                feed_refused: one.feed_refused + other.feed_refused,
                cut: one.cut + other.cut,
                right: one.right + other.right,
            },
        )
    })
}

/// Rot must never become an answer: what is damaged is refused by name, or provably not used.
#[test]
fn damage_to_a_closed_log_is_refused_or_without_effect() {
    let sound = sound(400, true);
    let counts = judge_all(&sound, 1_000 * soak());
    println!("seed={SEED} {counts:?}");
    assert!(counts.refused > 500 && counts.cut == 0);
}

/// After an unclean stop the last group may look torn; anything before it must not.
#[test]
fn damage_to_a_killed_log_is_refused_or_a_reported_cut() {
    let sound = sound(400, false);
    let counts = judge_all(&sound, 1_000 * soak());
    println!("seed={SEED} {counts:?}");
    assert!(counts.refused > 500 && counts.cut > 0);
}

/// sled's files are no truth: whatever happens to them, answers are right, from the first read on.
#[test]
fn damage_to_the_view_never_becomes_an_answer() {
    for closed in [true, false] {
        let scratch = disk::scratch();
        let home = scratch.path().join("sound");
        let mut run = Run::start(Place::sled(disk::new_files(SEED), &home)).unwrap();
        for step in plan(SEED, 400) {
            run.step(&step).unwrap();
        }
        let engine = run.engine.take().unwrap();
        if closed {
            engine.close(Duration::from_mins(1)).unwrap();
        }
        drop(engine);
        let tree = disk::copy(&home.join(PARTITION));
        let mut chance = StdRng::seed_from_u64(SEED);
        let (mut rebuilt, total) = (0, 60 * soak());
        for number in 0..total {
            let root = scratch.path().join(number.to_string());
            let place = Place::sled(run.place.files.crash(Crash::Killed), &root);
            place.put_back(&tree);
            let story = spoil(&place.files, &root.join(PARTITION), number, &mut chance);
            let (engine, report) = place.open().unwrap();
            let all = Bounds { least: run.oracle.len(), most: run.oracle.len() };
            if let Err(broken) = run.oracle.examine(&engine, all) {
                panic!("seed={SEED} closed={closed} number={number} {story}: {broken}");
            }
            rebuilt += usize::from(report.findings.iter().any(|finding| finding.contains("rebuilt")));
            drop(engine);
            fs::remove_dir_all(&root).unwrap();
        }
        println!("seed={SEED} closed={closed} damages={total} rebuilt={rebuilt}");
        assert!(rebuilt > total / 4);
    }
}

/// Damages sled's data file or the one of the blocks, or removes a file.
fn spoil(files: &SimulatedFiles, partition: &Path, number: usize, chance: &mut StdRng) -> String {
    let names = files.list(&simulated("")).unwrap();
    let view = names.iter().filter(|name| name.starts_with("view-")).max().unwrap();
    let blocks = simulated(view).join("blocks");
    let view = partition.join(view);
    let name = if number % 6 != 2 && chance.random() { "blocks" } else { "db" };
    let is_real = name == "db";
    let mut data = if is_real { fs::read(view.join(name)).unwrap() } else { files.content(&blocks) };
    let at = chance.random_range(0..data.len());
    let story = match number % 6 {
        0 | 1 => {
            data[at] ^= 1 << chance.random_range(0..8);
            format!("bit of {name} flipped at {at}")
        }
        // The header of one of sled's own segments.
        2 => {
            let at = at / (512 << 10) * (512 << 10) + chance.random_range(0..20);
            data[at] ^= 1 << chance.random_range(0..8);
            format!("header bit flipped at {at}")
        }
        3 => {
            let end = data.len().min(at + 4_096);
            data[at..end].fill(0);
            format!("zeros in {name} at {at}")
        }
        4 => {
            data.truncate(at);
            format!("{name} cut to {at}")
        }
        _ => {
            let mut names: Vec<_> = fs::read_dir(&view).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.push(blocks.clone());
            let gone = &names[chance.random_range(0..names.len())];
            if *gone == blocks {
                files.remove_file(gone).unwrap();
            } else if gone.is_dir() {
                fs::remove_dir_all(gone).unwrap();
            } else {
                fs::remove_file(gone).unwrap();
            }
            return format!("{} is gone", gone.display());
        }
    };
    if is_real {
        fs::write(view.join(name), data).unwrap();
    } else {
        files.damage(&blocks, |content| *content = data);
    }
    story
}
