//! Defects planted on purpose: each must be noticed, and none noticed where there is none.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::blocks::{a_split_cut_short, moved_behind_a_reader};
use super::drain::{impatient, old_snapshot_keeps_its_version};
use super::faults::cache_never_answers_an_old_version;
use super::model::live;
use super::*;
use crate::engine::local::view::options::Planted;

const ALL: [Planted; 14] = [
    Planted::DrainUnderSnapshot,
    Planted::FillAlways,
    Planted::DigestKeepsDeleted,
    Planted::DrainOldest,
    Planted::CacheNotTold,
    Planted::ReadUnpublished,
    Planted::GapsNotCut,
    Planted::DrainSkipsDeletes,
    Planted::AbsentShifted,
    Planted::SplitFromTheFront,
    Planted::TailsCount,
    Planted::TailsStay,
    Planted::TailsWritten,
    Planted::BlocksMoveUnseen,
];

/// A story, as its name and what it does.
type Story<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// The stories that must notice, by name.
fn noticed(planted: Option<Planted>) -> Vec<&'static str> {
    let with = |options: ViewOptions| ViewOptions { defect: planted.into(), ..options };
    let stories: [Story<'_>; 5] = [
        ("old snapshot", Box::new(|| old_snapshot_keeps_its_version(&memory(with(impatient()))))),
        ("cache race", Box::new(|| cache_never_answers_an_old_version(&with(options())))),
        ("model", Box::new(|| live(1, 100, None, &with(options())))),
        ("cut short", Box::new(|| a_split_cut_short(planted))),
        ("moved", Box::new(|| moved_behind_a_reader(planted))),
    ];
    let fails = |story: &dyn Fn()| catch_unwind(AssertUnwindSafe(story)).is_err();
    stories.into_iter().filter(|(_, story)| fails(&**story)).map(|(name, _)| name).collect()
}

/// A test that cannot fail proves nothing.
#[test]
fn every_planted_defect_is_noticed() {
    assert_eq!(noticed(None), Vec::<&str>::new());
    for planted in ALL {
        let by = noticed(Some(planted));
        println!("planted={planted:?} noticed_by={by:?}");
        assert!(!by.is_empty(), "planted={planted:?} went unnoticed");
    }
}
