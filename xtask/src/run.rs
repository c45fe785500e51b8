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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::RECIPES;

    const fn shell(script: &'static [&'static str], makes: Option<&'static str>) -> Step {
        Step {
            name: "made up",
            program: "sh",
            arguments: script,
            variables: &[],
            takes_words: false,
            needs: None,
            makes,
        }
    }

    /// A folder that goes with the test.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("the temporary folder can be written");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    // A committed file went stale because the code changed and nobody made it again.
    #[test]
    fn a_generated_file_that_changes_is_named() {
        let folder = Folder::new("stale");
        let generator: &[&[Step]] = &[&[shell(&["-c", "echo new"], Some("made.txt"))]];
        std::fs::write(folder.0.join("made.txt"), "old\n").expect("the folder can be written");
        let message = generators(&folder.0, generator).expect_err("the file was stale");
        assert!(message.contains("made.txt"), "{message}");
        assert_eq!(generators(&folder.0, generator), Ok(()), "made again it is up to date");
    }

    // A generator that breaks half-way must not leave its broken output where the good file was.
    #[test]
    fn a_generator_that_fails_or_is_silent_leaves_the_old_file() {
        let folder = Folder::new("broken");
        let file = folder.0.join("made.txt");
        std::fs::write(&file, "old\n").expect("the folder can be written");
        for script in [&["-c", "echo half; exit 1"] as &[&str], &["-c", "true"]] {
            assert!(steps(&folder.0, &[shell(script, Some("made.txt"))], &[]).is_err());
            assert_eq!(std::fs::read_to_string(&file).expect("the file is there"), "old\n");
        }
    }

    #[test]
    fn the_first_failure_ends_the_recipe() {
        let folder = Folder::new("order");
        let recipe = [shell(&["-c", "exit 3"], None), shell(&["-c", "echo ran > later"], None)];
        assert!(steps(&folder.0, &recipe, &[]).is_err());
        assert!(!folder.0.join("later").exists(), "the step behind the failure ran");
    }

    #[test]
    fn what_a_step_needs_is_named_when_it_is_missing() {
        let folder = Folder::new("needs");
        let step = Step { needs: Some("benches/Cargo.toml"), ..shell(&["-c", "true"], None) };
        let message = steps(&folder.0, &[step], &[]).expect_err("the file is missing");
        assert!(message.contains("benches/Cargo.toml"), "{message}");
    }

    // `cargo xtask lint core` would look as if only the core was checked.
    #[test]
    fn words_that_no_step_takes_are_refused() {
        for recipe in RECIPES.iter().filter(|recipe| !recipe.steps.iter().any(|step| step.takes_words)) {
            assert!(steps(Path::new("."), recipe.steps, &["core".to_owned()]).is_err(), "{}", recipe.name);
        }
    }
}
