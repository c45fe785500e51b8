//! Rules on how long a file and a function may be.

use super::source::{Source, behind_closing, words};
use super::{Problem, problem};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// A file holds one noun: at most 600 lines before its tests.
pub fn file_length(source: &Source) -> Vec<Problem> {
    let hand_written = source.is_rust()
        || [".py", ".js", ".mjs", ".ts"].iter().any(|end| source.path.ends_with(end))
            && !source.path.ends_with(".d.ts")
            && !source.path.ends_with("/native.js");
    if !hand_written || source.is_test() {
        return Vec::new();
    }
    let lines =
        if source.is_rust() { source.text[..source.tests_start()].lines() } else { source.text.lines() }.count();
    if lines <= FILE_LINES {
        return Vec::new();
    }
    problem(1, format!("{lines} lines before its tests, at most {FILE_LINES}: split it by noun"))
}

/// A function is at most 70 lines, from its `fn` to its closing brace.
pub fn function_length(source: &Source) -> Vec<Problem> {
    words(&source.code, "fn").filter_map(|start| too_long(source, start)).collect()
}

fn too_long(source: &Source, start: usize) -> Option<Problem> {
    let code = &source.code;
    let name = code[start + 2..].trim_start();
    let name = &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())];
    if name.is_empty() {
        return None; // the type of a function, as in `fn(u8) -> u8`
    }
    let end = behind_closing(code, body(code, start)?)?;
    let lines = code[start..end].matches('\n').count() + 1;
    (lines > FUNCTION_LINES).then(|| Problem {
        line: source.line(start),
        what: format!("`{name}` has {lines} lines, at most {FUNCTION_LINES}: give a part of it a name"),
    })
}

/// Where the body of the function at `start` opens; none if it has no body.
fn body(code: &str, start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += code[at..].find(['(', '[', '{', ';'])?;
        match code.as_bytes()[at] {
            b'{' => return Some(at),
            b';' => return None,
            _ => at = behind_closing(code, at)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_measured_up_to_its_tests() {
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        let fits = "//\n".repeat(FILE_LINES) + &tests.repeat(2);
        assert!(file_length(&Source::new("core/src/a.rs", &fits)).is_empty());
        let long = "//\n".repeat(FILE_LINES + 1);
        assert_eq!(file_length(&Source::new("core/src/a.rs", &long)).len(), 1);
        assert_eq!(file_length(&Source::new("examples/a.py", &long)).len(), 1);
        assert!(file_length(&Source::new("core/tests/it/a.rs", &long)).is_empty(), "tests may be longer");
        assert!(file_length(&Source::new("node-bindings/native.d.ts", &long)).is_empty(), "nobody writes this by hand");
    }

    // A parser that takes the `;` of an array type, or a brace in a signature's string, for the end would measure nothing.
    #[test]
    fn a_function_is_measured_with_its_signature() {
        let fits = format!("fn a(b: [u8; 4]) -> [u8; 2] {{\n{}}}\n", "    b();\n".repeat(FUNCTION_LINES - 2));
        assert!(function_length(&Source::new("a.rs", &fits)).is_empty());
        let long = format!(
            "trait T {{ fn c(); }}\nfn a(b: [u8; 4]) -> [u8; 2] {{\n{}}}\n",
            "    b();\n".repeat(FUNCTION_LINES - 1)
        );
        let problems = function_length(&Source::new("a.rs", &long));
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2]);
    }
}
