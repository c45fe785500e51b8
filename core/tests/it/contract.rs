//! The scenarios that every language runs, through the handle: in memory, on a directory, and as the client of another
//! process.

use kappa_core::env::Env;
use kappa_core::{Kappa, Mode, Options};

use crate::database::small;
use crate::member::{Member, Order};

#[path = "../contract/scenario.rs"]
pub mod scenario;

#[path = "../contract/handle.rs"]
mod handle;

use handle::Handle;
use scenario::{Database, run_bad_input, run_scenarios};

fn in_memory() -> Box<dyn Database> {
    Handle::boxed(Kappa::in_memory(&Options::default(), &Env::default()).unwrap(), ())
}

fn on_a_directory() -> Box<dyn Database> {
    let place = tempfile::tempdir().unwrap();
    let kappa = Kappa::open_with(place.path(), &small(), &Env::default()).unwrap();
    Handle::boxed(kappa, place)
}

/// A handle that asks `owner`, another process, for everything. The owner closes what it had open before.
fn through_a_client(owner: &mut Member) -> Box<dyn Database> {
    let place = tempfile::tempdir().unwrap();
    let open = Order::Open { directory: place.path().to_owned(), mode: "owner".into(), deadline_ms: 10_000 };
    owner.must(&open);
    let options = Options { mode: Mode::Client, ..small() };
    let kappa = Kappa::open_with(place.path(), &options, &Env::default()).unwrap();
    let info = kappa.info().unwrap();
    assert_eq!((info.role, info.owner_pid), ("client", owner.pid()), "the calls do not leave this process");
    Handle::boxed(kappa, place)
}

/// What the handle answers is what every other language is held to.
#[test]
fn every_scenario_in_memory() {
    run_scenarios("rust", &mut in_memory);
}

/// The engine in memory and the one on disk could answer differently.
#[test]
fn every_scenario_on_a_directory() {
    run_scenarios("rust", &mut on_a_directory);
}

/// What crosses the socket could come out otherwise than it went in.
#[test]
fn every_scenario_through_a_client() {
    let mut owner = Member::spawn();
    run_scenarios("rust", &mut || through_a_client(&mut owner));
    assert_eq!(owner.end(), Some(0));
}

/// A refused call that left something behind would be half done.
#[test]
fn bad_input_is_refused_and_changes_nothing() {
    run_bad_input("memory", &mut *in_memory(), &[]);
    run_bad_input("a directory", &mut *on_a_directory(), &[]);
}

#[test]
fn bad_input_is_refused_through_a_client() {
    let mut owner = Member::spawn();
    run_bad_input("a client", &mut *through_a_client(&mut owner), &[]);
    assert_eq!(owner.end(), Some(0));
}
