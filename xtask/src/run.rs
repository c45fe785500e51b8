//! Running the steps of a recipe, and checking what generators make.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::recipe::Step;

/// Runs `steps` in order with `words` for those that take them, and prints how long each took.
///
/// # Errors
///
/// A message for people that names the first step that failed; later ones do not run.
pub fn steps(root: &Path, steps: &[Step], words: &[String]) -> Result<(), String> {
    if !words.is_empty() && !steps.iter().any(|step| step.takes_words) {
        return Err(format!("takes no further words, got \"{}\"", words.join(" ")));
    }
    let mut times = Vec::new();
    for step in steps {
        println!("== {}: {} {}", step.name, step.program, step.arguments.join(" "));
        let start = now();
        let result = run(root, step, words);
        times.push((step.name, start.elapsed_time()));
        if result.is_err() {
            print_times(&times);
            return result;
        }
    }
    print_times(&times);
    Ok(())
}

/// Runs every generator again and compares what it makes with what was there.
///
/// # Errors
///
/// A message for people that names the files that changed; they are left changed, ready to be looked at and committed.
pub fn generators(root: &Path, generators: &[&[Step]]) -> Result<(), String> {
    let mut changed = Vec::new();
    for generator in generators {
        let files = || generator.iter().filter_map(|step| step.makes);
        let before: Vec<_> = files().map(|file| std::fs::read(root.join(file)).ok()).collect();
        steps(root, generator, &[])?;
        let after = files().map(|file| (file, std::fs::read(root.join(file)).ok()));
        changed.extend(after.zip(before).filter(|((_, after), before)| after != before).map(|((file, _), _)| file));
    }
    if changed.is_empty() {
        return Ok(());
    }
    Err(format!("made again, these files differ from what was there: {}", changed.join(", ")))
}

fn run(root: &Path, step: &Step, words: &[String]) -> Result<(), String> {
    if let Some(file) = step.needs
        && !root.join(file).exists()
    {
        return Err(format!("{}: needs {file}, which is not in this checkout", step.name));
    }
    let program = if step.program == "cargo" { std::env::var_os("CARGO") } else { None };
    let mut command = Command::new(program.unwrap_or_else(|| step.program.into()));
    command.args(step.arguments).envs(step.variables.iter().copied()).current_dir(root);
    if step.takes_words {
        command.args(words);
    }
    if step.makes.is_some() {
        command.stdout(Stdio::piped());
    }
    let child = command.spawn().map_err(|error| format!("{}: cannot run {}: {error}", step.name, step.program))?;
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", step.name))?;
    if !output.status.success() {
        return Err(format!("{}: {}", step.name, output.status));
    }
    match step.makes {
        Some(file) => write(root, file, &output.stdout),
        None => Ok(()),
    }
}

/// Only a whole output replaces the file: a generator that failed or was silent leaves the old one.
fn write(root: &Path, file: &str, content: &[u8]) -> Result<(), String> {
    if content.trim_ascii().is_empty() {
        return Err(format!("{file}: the generator printed nothing"));
    }
    std::fs::write(root.join(file), content).map_err(|error| format!("{file}: {error}"))
}

fn print_times(times: &[(&str, Duration)]) {
    for (name, time) in times {
        println!("   {:>8.1} s  {name}", time.as_secs_f64());
    }
}

/// When a step began.
struct Started(Instant);

#[expect(clippy::disallowed_methods, reason = "the time of a step is shown to a person; nothing depends on it")]
fn now() -> Started {
    Started(Instant::now())
}

impl Started {
    #[expect(clippy::disallowed_methods, reason = "the time of a step is shown to a person; nothing depends on it")]
    fn elapsed_time(&self) -> Duration {
        self.0.elapsed()
    }
}
