//! The commands of README.md, run as they stand there.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::program::{Running, program};

/// Where the commands believe the server is.
const WRITTEN: &str = "127.0.0.1:8080";

/// Whether `text` begins as `expected` says, where `...` stands for anything.
fn begins(text: &str, expected: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    parts.all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// What `command` prints until that is what was expected, or until it ends: a feed has no end.
fn run(command: &str, expected: &str) -> String {
    let command = command.replacen("curl", "exec curl --silent --show-error --max-time 30", 1);
    let mut child = Command::new("sh").args(["-c", &command]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (mut said, mut part) = (Vec::new(), [0; 4_096]);
    while let Ok(read @ 1..) = output.read(&mut part) {
        said.extend_from_slice(&part[..read]);
        if begins(&String::from_utf8_lossy(&said), expected) {
            break;
        }
    }
    // It has ended already where its answer has an end.
    let _ = child.kill();
    child.wait().unwrap();
    String::from_utf8(said).unwrap()
}

/// A first page whose commands fail sends its readers away.
#[test]
fn the_commands_of_the_readme_answer_as_it_says() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("Talk to it")).expect("the section");
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(program().args(["--port", "0", "--data"]).arg(directory.path()));
    let address = running.client.0.to_string();
    let mut lines = section.lines().filter_map(|line| line.strip_prefix("    "));
    let mut commands = 0;
    while let Some(command) = lines.next() {
        assert!(command.starts_with("curl ") && command.contains(WRITTEN), "no command: {command}");
        let expected = lines.next().and_then(|line| line.strip_prefix("# "));
        let expected = expected.unwrap_or_else(|| panic!("no answer behind {command}"));
        let said = run(&command.replace(WRITTEN, &address), expected);
        assert!(begins(&said, expected), "{command}\nexpected: {expected}\nsaid: {said}");
        commands += 1;
    }
    assert!((8..=16).contains(&commands), "{commands} commands");
}

/// The program is compiled as an example, so it cannot be one that no longer compiles.
#[test]
fn the_program_of_the_readme_is_the_example() {
    let readme = include_str!("../../../README.md");
    let program = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the program");
    let example = include_str!("../../../examples/rust/readme.rs");
    assert!(example.ends_with(program), "examples/rust/readme.rs is another program");
}
