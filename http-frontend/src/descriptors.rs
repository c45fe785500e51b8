//! File descriptors: as many as the system allows, and no more connections than they carry.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for the database's files, pipes and what the runtime needs.
const RESERVED: u64 = 256;
/// Connections that are allowed however few descriptors there are; the accept loop waits where they run out.
const FEWEST: usize = 64;

/// Raises this process's limit to what it may be without asking anybody, and says how many descriptors that gives. Many
/// systems start programs with 1 024, for the sake of old ones that cannot count further; this one can.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// How many of `wanted` connections `descriptors` carry; no number means no limit.
pub fn connections(wanted: usize, descriptors: Option<u64>) -> usize {
    let carried = descriptors.map_or(u64::MAX, |all| all.saturating_sub(RESERVED));
    wanted.min(usize::try_from(carried).unwrap_or(usize::MAX).max(FEWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection too many takes the descriptor that the next segment of the log needs.
    #[test]
    fn the_database_keeps_its_share() {
        for (descriptors, expected) in [
            (None, 1_024),
            (Some(524_288), 1_024),
            (Some(1_280), 1_024),
            (Some(1_024), 768),
            (Some(300), 64),
            (Some(0), 64),
        ] {
            assert_eq!(connections(1_024, descriptors), expected, "{descriptors:?}");
        }
        assert_eq!(connections(4, None), 4);
    }

    #[test]
    fn the_limit_is_what_was_said() {
        let said = raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, said);
    }
}
