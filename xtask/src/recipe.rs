//! The recipes as data: adding a step to one is a line here.

/// A named list of steps, run one after another until one fails.
pub struct Recipe {
    /// What stands behind `cargo xtask`.
    pub name: &'static str,
    /// What it is for, for the list of recipes.
    pub purpose: &'static str,
    /// What it does, in order.
    pub steps: &'static [Step],
}

/// One program to run at the root of the workspace.
#[derive(Clone, Copy)]
pub struct Step {
    /// Shown before it runs and beside its time.
    pub name: &'static str,
    /// `cargo` means the cargo that runs this.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: &'static [&'static str],
    /// Variables set for it alone.
    pub variables: &'static [(&'static str, &'static str)],
    /// Whether the words behind the recipe's name are added to the arguments.
    pub takes_words: bool,
    /// A file without which this step cannot run.
    pub needs: Option<&'static str>,
    /// The generated file that its standard output becomes.
    pub makes: Option<&'static str>,
}

impl Step {
    const fn cargo(name: &'static str, arguments: &'static [&'static str]) -> Self {
        Self { name, program: "cargo", arguments, variables: &[], takes_words: false, needs: None, makes: None }
    }

    const fn with(self, variables: &'static [(&'static str, &'static str)]) -> Self {
        Self { variables, ..self }
    }

    const fn taking_words(self) -> Self {
        Self { takes_words: true, ..self }
    }

    const fn needing(self, file: &'static str) -> Self {
        Self { needs: Some(file), ..self }
    }

    const fn making(self, file: &'static str) -> Self {
        Self { makes: Some(file), ..self }
    }
}

/// All recipes, in the order in which they are listed. `tidy`, `generated` and `python` are not among them: what they do is no
/// list of programs. `test` goes on with `python`.
pub const RECIPES: &[Recipe] = &[
    Recipe { name: "test", purpose: "run the tests, or those whose names contain the word given", steps: TEST },
    Recipe { name: "lint", purpose: "check format, lints and documentation", steps: LINT },
    Recipe { name: "bench", purpose: "run the benchmarks, or those whose names match", steps: BENCH },
    Recipe { name: "soak", purpose: "run the crash and model tests at length (release build)", steps: SOAK },
    Recipe { name: "fuzz", purpose: "run the fuzz target named (cargo-fuzz, nightly), until stopped", steps: FUZZ },
    Recipe { name: "openapi", purpose: "make http-frontend/openapi.json again from the code", steps: OPENAPI },
];

/// The recipes that make committed files; `generated` runs each and fails if a file changes.
pub const GENERATORS: &[&[Step]] = &[OPENAPI];

const TEST: &[Step] = &[Step::cargo("rust", &["test", "--workspace", "--locked"]).taking_words()];

const LINT: &[Step] = &[
    Step::cargo("format", &["fmt", "--all", "--check"]),
    Step::cargo("clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    Step::cargo(
        "clippy, core with all features",
        &["clippy", "-p", "kappa-core", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"],
    ),
    Step::cargo("documentation", &["doc", "--workspace", "--no-deps", "--locked"])
        .with(&[("RUSTDOCFLAGS", "-D warnings")]),
];

const BENCH: &[Step] = &[Step::cargo("benches", &["bench", "-p", "kappa-benches", "--locked", "--"])
    .taking_words()
    .needing("benches/Cargo.toml")];

// All of core's tests: those that have a longer form look at the variable themselves, and a filter would miss one of them some day.
const SOAK: &[Step] =
    &[Step::cargo("core at length", &["test", "--release", "-p", "kappa-core", "--locked"])
        .with(&[("KAPPA_SOAK", "1")])];

const FUZZ: &[Step] = &[Step {
    program: "rustup",
    ..Step::cargo("fuzz", &["run", "nightly", "cargo", "fuzz", "run", "--fuzz-dir", "core/fuzz"]).taking_words()
}];

const OPENAPI: &[Step] =
    &[Step::cargo("openapi", &["run", "--quiet", "-p", "kappa-server", "--locked", "--", "openapi"])
        .making("http-frontend/openapi.json")];
