//! One durable task after another, against append + `fdatasync` of the same groups.

use std::sync::Arc;

use kappa_benches::{CountingFiles, Rounds, Stopwatch, describe, directory, settle};
use kappa_core::env::Env;
use kappa_core::{Json, Kappa, Mode, NewTask, Options};

use crate::raw::Raw;

const ROUNDS: usize = 11;
const ROUND_SECONDS: f64 = 0.5;

/// Prints how much of what the disk gives one caller gets.
pub fn measure() {
    describe("tasks single");
    let place = directory(env!("CARGO_TARGET_TMPDIR"));
    let files = CountingFiles::default();
    let env = Env { files: Arc::new(files.clone()), ..Env::default() };
    let options = Options { mode: Mode::Owner, ..Options::default() };
    let kappa = Kappa::open_with(place.path().join("kappa"), &options, &env).expect("a new directory");
    let tasks = kappa.tasks();
    let mut raw = Raw::new(place.path());
    let mut rounds = Rounds::new("tasks: enqueue, 1 caller", "tasks/s");
    for round in 0..=ROUNDS {
        settle();
        files.take_groups();
        let watch = Stopwatch::start();
        let mut count = 0;
        while watch.seconds() < ROUND_SECONDS {
            tasks.enqueue(NewTask::new("mail", params(count))).wait().expect("it is taken");
            count += 1;
        }
        let seconds = watch.seconds();
        let groups = files.take_groups();
        settle();
        let raw_seconds = raw.run(&groups);
        // The first round makes files.
        if round > 0 {
            rounds.add("kappa", f64::from(count) / seconds);
            rounds.add("append + fdatasync", groups.len() as f64 / raw_seconds);
        }
    }
    rounds.print();
    rounds.at_least("kappa", "append + fdatasync", 0.7);
    kappa.close().expect("the database closes");
}

/// What a small task carries.
pub fn params(number: u32) -> Json {
    let text = format!(r#"{{"to":"user-{number}@example.com","template":"welcome","order":{number}}}"#);
    Json::parse(text).expect("this is JSON")
}
