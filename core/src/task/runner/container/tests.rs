//! Containers, with a script in the engine's place that notes how it was called. No image is run here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::env::Env;
use crate::task::kinds::testing::Stage;
use crate::task::kinds::{Kinds, Setup};
use crate::task::runner::TaskPrograms;

const IMAGE: &str = "example.org/task-sum@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An engine that writes each of its command lines into a file, one word a line, and then does as `script` says.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn kinds(&self, script: &str) -> (Kinds, Containers) {
        let path = self.path().join("docker");
        let calls = self.path().join("calls");
        let text = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\n{{ echo call; printf '%s\\n' \"$@\"; }} >> {}\n{script}\n",
            calls.display()
        );
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let programs = json!({
            "directory": self.path().join("runs"),
            "container_engine": path,
            "containers": {"adder": {
                "image": IMAGE,
                "arguments": ["{mode}"],
                "environment": {"A": "b c"},
                "processors": 0.5,
                "limits": {"memory_bytes": 67_108_864, "processes": 20, "file_bytes": 1_000_000, "grace_seconds": 0},
            }},
        });
        let programs: TaskPrograms = serde_json::from_value(programs).expect("a configuration");
        let mut kinds = Kinds::built_in(&Setup::default());
        let containers = programs.install(&mut kinds, &Env::default()).expect("it fits").expect("there are containers");
        (kinds, containers)
    }

    /// The first words of all calls.
    fn commands(&self) -> Vec<String> {
        self.calls().into_iter().map(|mut call| call.swap_remove(0)).collect()
    }

    fn calls(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.path().join("calls")).unwrap_or_default();
        let calls = text.split("call\n").skip(1);
        calls.map(|call| call.lines().map(str::to_owned).collect()).collect()
    }
}

/// Each option that is missing gives a container something it must not have; an option behind the image is the
/// image's own.
#[test]
fn a_container_is_run_with_nothing_but_its_image() {
    let place = Place::new();
    let (kinds, _) = place.kinds("cat > /dev/null; echo 10");
    assert_eq!(kinds.run("adder", &Stage::new(json!({"mode": "fast", "x": "--privileged"}))), Ok(json!(10)));
    let calls = place.calls();
    let [look, line] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(look.join(" "), format!("image inspect --format {{{{.Id}}}} {IMAGE}"));
    let line = line.join(" ");
    let database = line.split(' ').find_map(|word| word.strip_prefix("kappa.database=")).expect("it says whose it is");
    assert!(database.len() == 32 && database.bytes().all(|byte| byte.is_ascii_hexdigit()), "{database}");
    let name = line.split(' ').skip_while(|word| *word != "--name").nth(1).expect("it has a name");
    let rest = name.strip_prefix("kappa-7-1-").expect("the task and its run");
    assert_eq!(rest.len(), 16, "{name}");
    let expected = format!(
        "run --rm --interactive --init --pull never --name {name} --label kappa.database={database} --label kappa.task=7-1 \
         --network none --cap-drop ALL --security-opt no-new-privileges --user 65534:65534 --pids-limit 20 --memory 67108864 --memory-swap 67108864 \
         --cpus 0.5 --ulimit core=0 --tmpfs /tmp:rw,noexec,nosuid,nodev,mode=1777,size=1000000 --log-driver none --env A=b c \
         --env KAPPA_TASK_ID=7 --env KAPPA_TASK_FENCE=7-1 --read-only {IMAGE} fast"
    );
    assert_eq!(line, expected);
    assert!(kinds.check("adder", &json!({"mode": "--privileged"})).is_err());
}

/// The client's end is not the container's: without a kill by name it would go on with nobody watching.
#[test]
fn a_cancelled_container_is_killed_by_name() {
    let place = Place::new();
    let (kinds, _) = place.kinds("[ \"$1\" = run ] && trap '' TERM && while :; do sleep 1; done; exit 0");
    let failure = kinds.run("adder", &Stage::new(json!({"mode": "x"})).cancelled_after(2)).expect_err("cancelled");
    assert!(failure.is_cancelled(), "{failure}");
    let calls = place.calls();
    let name = &calls[1][7];
    assert_eq!(
        calls[2..],
        [vec!["kill".to_owned(), name.clone()], vec!["rm".to_owned(), "--force".to_owned(), name.clone()]]
    );
    assert!(name.starts_with("kappa-7-1-"), "{name}");
}

#[test]
fn the_engines_own_failures_are_told_from_the_containers() {
    for (status, code, retry) in [
        (125, "engine", true),
        (126, "engine", false),
        (127, "engine", false),
        (137, "killed", true),
        (64, "refused", false),
        (1, "status", true),
    ] {
        let place = Place::new();
        let (kinds, _) = place.kinds(&format!("[ \"$1\" = image ] && exit 0; echo said so >&2; exit {status}"));
        let failure = kinds.run("adder", &Stage::new(json!({"mode": "x"}))).expect_err("it fails");
        assert_eq!((failure.code.as_str(), failure.retry), (code, retry), "{status}: {failure}");
        assert!(failure.message.contains("said so"), "{failure}");
        assert_eq!(place.commands(), ["image", "run"], "it ended by itself");
    }
}

/// Fetching an image takes as long as it takes: were it a part of the run, the container's limit of time would have to
/// allow for it, and a container that hangs would be stopped a minute late.
#[test]
fn an_image_is_fetched_before_the_run_and_only_where_it_is_missing() {
    let place = Place::new();
    let image = place.path().join("image");
    let (image, run) = (image.display(), Stage::new(json!({"mode": "x"})));
    let (kinds, _) = place.kinds(&format!(
        "case $1 in image) [ -e {image} ];; pull) touch {image}; echo \"$3\";; \
         run) cat > /dev/null; [ -e {image} ] || exit 125; echo 10;; esac"
    ));
    assert_eq!(kinds.run("adder", &run), Ok(json!(10)));
    assert_eq!(place.calls()[1], ["pull", "--quiet", IMAGE]);
    assert_eq!(kinds.run("adder", &run), Ok(json!(10)));
    assert_eq!(place.commands(), ["image", "pull", "run", "run"]);
    fs::remove_file(place.path().join("image")).expect("it is ours");
    assert_eq!(kinds.run("adder", &run).expect_err("the image is gone").code, "engine");
    assert_eq!(kinds.run("adder", &run), Ok(json!(10)));
    assert_eq!(place.commands()[4..], ["run", "image", "pull", "run"]);
}

#[test]
fn an_image_that_cannot_be_fetched_is_tried_again_later() {
    let place = Place::new();
    let (kinds, _) = place.kinds("echo no such image >&2; exit 1");
    let failure = kinds.run("adder", &Stage::new(json!({"mode": "x"}))).expect_err("there is no image");
    assert_eq!((failure.code.as_str(), failure.retry), ("engine", true));
    assert!(failure.message.contains("no such image") && failure.message.contains(IMAGE), "{failure}");
    let (kinds, _) = place.kinds("[ \"$1\" = pull ] && trap '' TERM && while :; do sleep 1; done; exit 1");
    let stage = Stage::new(json!({"mode": "x"})).cancelled_after(2);
    assert!(kinds.run("adder", &stage).expect_err("cancelled").is_cancelled());
    assert!(!place.commands().contains(&"run".to_owned()));
}

/// What the engine lists: ours, and what only looks like it.
const LISTED: &str = "kappa-7-1-00aa\\nkappa-8-2-00bb\\nsomething-else\\nkappa-x-1-00\\nkappa-7--1-00\\nkappa-7-12-00dd\\n\
                      kappa-9-1-00cc\\n";

/// A server that was killed leaves containers that use the machine beside the next attempt; those of a living worker
/// must go on.
#[test]
fn what_a_dead_server_left_is_reaped() {
    let place = Place::new();
    let (_, containers) = place.kinds(&format!("[ \"$1\" = ps ] && printf '{LISTED}'; exit 0"));
    let asked = Mutex::new(Vec::new());
    let runs = |id| {
        asked.lock().push(id);
        id == 8
    };
    assert_eq!(containers.reap("00ff", &runs).expect("it answers"), 3);
    assert_eq!(*asked.lock(), [7, 8, 7, 9]);
    let calls = place.calls();
    assert_eq!(calls[0], ["ps", "--all", "--filter", "label=kappa.database=00ff", "--format", "{{.Names}}"]);
    assert_eq!(removed(&calls), ["kappa-7-1-00aa", "kappa-7-12-00dd", "kappa-9-1-00cc"]);
    let (_, containers) = place.kinds("echo no daemon >&2; exit 1");
    let error = containers.reap("00ff", &|_| true).expect_err("nobody answers");
    assert!(error.to_string().contains("no daemon"), "{error}");
    let asked = place.commands().len();
    assert_eq!(containers.reap("", &|_| false).expect_err("whose?").kind(), ErrorKind::Unsupported);
    assert_eq!(place.commands().len(), asked, "the engine would list those of all databases");
}

/// Those that were killed and then removed.
fn removed(calls: &[Vec<String>]) -> Vec<&str> {
    let calls: Vec<_> = calls.iter().filter(|call| call[0] == "kill" || call[0] == "rm").collect();
    let pairs = calls.chunks(2).map(|pair| match pair {
        [kill, rm] if kill[0] == "kill" && rm[..2] == ["rm", "--force"] && kill[1] == rm[2] => kill[1].as_str(),
        other => panic!("{other:?}"),
    });
    pairs.collect()
}

/// A server that was killed and started again runs its tasks once more while their containers of before still work: the
/// lease outlives the worker, so that at the start nobody can tell that they are left over.
#[test]
fn another_run_begins_without_the_containers_of_those_before() {
    let place = Place::new();
    let (kinds, _) = place.kinds(&format!("case $1 in ps) printf '{LISTED}';; run) cat > /dev/null; echo 10;; esac"));
    let first = Stage::new(json!({"mode": "x"}));
    assert_eq!(kinds.run("adder", &first), Ok(json!(10)));
    assert_eq!(place.commands(), ["image", "run"], "nothing can be left of a run before the first");
    assert_eq!(kinds.run("adder", &first.again()), Ok(json!(10)));
    assert_eq!(place.commands()[2..], ["ps", "kill", "rm", "run"]);
    let calls = place.calls();
    assert_eq!(removed(&calls), ["kappa-7-1-00aa"]);
    // Another database on the same engine has a task 7 of its own.
    let database = calls[1].iter().find(|word| word.starts_with("kappa.database=")).expect("it says whose it is");
    assert_eq!(calls[2][3], format!("label={database}"));
}

#[test]
fn an_image_without_its_digest_is_refused() {
    let digest = &IMAGE[IMAGE.find("@sha256:").expect("it has one")..];
    check_image(IMAGE).expect("it has a digest");
    for image in [
        "example/task-sum",
        "example/task-sum:latest",
        &format!("example/task-sum:latest@sha256:{}", "0".repeat(63)),
        &format!("-v/:/host{digest}"),
        &format!("a b{digest}"),
        digest,
        &IMAGE.to_uppercase(),
        &format!("{IMAGE}0"),
    ] {
        assert_eq!(check_image(image).expect_err(image).kind(), ErrorKind::InvalidInput);
    }
}
