//! The doors through which fuzzers put bytes into what reads them; not part of the interface.

pub use crate::engine::local::log::fuzzing::{base_block, log_record};
pub use crate::executor::fuzzing::feed_cursor;
pub use crate::store::fuzzing::{document, list_cursor, merge_patch};

/// A door, and the name of its target.
pub type Door = (&'static str, fn(&[u8]));

/// Every door.
pub const DOORS: &[Door] = &[
    ("log_record", log_record),
    ("base_block", base_block),
    ("list_cursor", list_cursor),
    ("feed_cursor", feed_cursor),
    ("merge_patch", merge_patch),
    ("document", document),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Per door; more where there is time for it.
    fn mutations() -> u64 {
        if std::env::var_os("KAPPA_SOAK").is_some() { 1_000_000 } else { 2_000 }
    }

    /// One change of the kind that finds most: a bit, a byte, a piece cut, doubled or put elsewhere.
    fn mutate(random: &mut StdRng, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(random.random());
            return;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..=16)).min(bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'}'][random.random_range(0..8)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            _ => bytes.insert(at, random.random()),
        }
    }

    /// Fuzzers run by hand; what they once found, and what lies near it, must stay refused without a panic on
    /// every change. A target that is not listed would be covered nowhere.
    #[test]
    fn no_door_panics_on_its_corpus_or_near_it() {
        let seed = 1;
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, door) in DOORS {
            assert!(fuzz.join("fuzz_targets").join(name).with_extension("rs").exists(), "{name} has a target");
            let mut corpus: Vec<_> = std::fs::read_dir(fuzz.join("corpus").join(name)).expect(name).collect();
            corpus.sort_by_key(|entry| entry.as_ref().expect(name).file_name());
            let corpus: Vec<Vec<u8>> =
                corpus.into_iter().map(|entry| std::fs::read(entry.expect(name).path()).expect(name)).collect();
            assert!(!corpus.is_empty(), "{name} has a corpus");
            for bytes in &corpus {
                door(bytes);
            }
            let mut random = StdRng::seed_from_u64(seed);
            for mutation in 0..mutations() {
                let mut bytes = corpus[random.random_range(0..corpus.len())].clone();
                (0..random.random_range(1..6)).for_each(|_| mutate(&mut random, &mut bytes));
                let shown = bytes.clone();
                let opened = std::panic::catch_unwind(|| door(&bytes));
                assert!(opened.is_ok(), "seed={seed} door={name} mutation={mutation} bytes={shown:?}");
            }
        }
    }
}
