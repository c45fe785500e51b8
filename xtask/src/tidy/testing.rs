//! Rules that keep a test a test.

use super::Problem;
use super::source::{Source, behind_closing, words};

/// A test that is not run protects nothing.
pub fn no_ignored_tests(source: &Source) -> Vec<Problem> {
    let found = source.code.match_indices("#[ignore").map(|(position, _)| position);
    found.map(|position| at(source, position, "run the test or remove it; long ones read KAPPA_SOAK")).collect()
}

/// `matches!(..);` as a statement throws its answer away: it was meant to be asserted.
pub fn no_dropped_matches(source: &Source) -> Vec<Problem> {
    let code = &source.code;
    words(code, "matches!")
        .filter(|position| {
            let opens_statement =
                matches!(code[..*position].trim_end().chars().next_back(), None | Some('{' | '}' | ';'));
            let open = position + "matches!".len();
            let rest = behind_closing(code, open).map_or("", |end| code[end..].trim_start());
            opens_statement && rest.starts_with(';')
        })
        .map(|position| at(source, position, "the answer of `matches!` is dropped; use `assert!(matches!(..))`"))
        .collect()
}

/// A test waits for what it needs, with a deadline; a test that sleeps is either slow or fails on a busy machine.
pub fn no_sleep_in_tests(source: &Source) -> Vec<Problem> {
    let start = if source.is_test() { 0 } else { source.tests_start() };
    words(&source.code[start..], "thread::sleep")
        .map(|position| at(source, start + position, "wait for a condition with a deadline, or move a `ManualClock`"))
        .collect()
}

fn at(source: &Source, position: usize, what: &str) -> Problem {
    Problem { line: source.line(position), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_test_is_refused() {
        assert!(no_ignored_tests(&Source::new("a.rs", "// #[ignore]\n#[test]\nfn a() {}")).is_empty());
        assert_eq!(no_ignored_tests(&Source::new("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}")).len(), 1);
    }

    #[test]
    fn a_dropped_matches_is_refused() {
        let used = "fn a() -> bool { let b = matches!(c, D); assert!(matches!(c, D)); matches!(c, D) }";
        assert!(no_dropped_matches(&Source::new("a.rs", used)).is_empty());
        assert_eq!(no_dropped_matches(&Source::new("a.rs", "fn a() { matches!(c, D(_)); }")).len(), 1);
    }

    #[test]
    fn a_sleeping_test_is_refused() {
        let product = "fn a() { std::thread::sleep(b); }\n";
        assert!(no_sleep_in_tests(&Source::new("core/src/a.rs", product)).is_empty(), "left to the lints");
        assert_eq!(no_sleep_in_tests(&Source::new("core/tests/it/a.rs", product)).len(), 1);
        let unit = format!("{product}#[cfg(test)]\nmod tests {{ fn b() {{ thread::sleep(c); }} }}");
        let lines: Vec<usize> =
            no_sleep_in_tests(&Source::new("core/src/a.rs", &unit)).iter().map(|p| p.line).collect();
        assert_eq!(lines, [3]);
    }
}
