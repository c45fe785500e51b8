//! `/api/execute`: runs a task of the task server, and answers its result.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kappa_core::runner::TaskPrograms;
use kappa_core::{Backoff, CallOptions, ErrorKind, NewTask, Task, TaskState};
use serde_json::{Map, Value, json};

use super::fields::{Unreadable, fields};
use crate::api::documents::call_options;
use crate::api::tasks::refused;
use crate::app::App;
use crate::error::{self, Problem};
use crate::workers::EXECUTE;

/// Small calculations that anybody may ask for.
const SAMPLES: [&str; 7] = ["sum", "multiplication", "prime", "pi_digits", "hash", "text_inversion", "random_number"];
/// Runs of one task at most, close together: somebody waits.
const ATTEMPTS: u32 = 3;
const BACKOFF: Backoff = Backoff::Exponential { base_ms: 100, cap_ms: 1_000 };

/// Runs a task within its time, else answers where it is.
pub async fn execute(State(app): State<App>, request: Request) -> Response {
    let headers: HeaderMap = request.headers().clone();
    let sent = match fields(&app, request).await {
        Ok(sent) => sent,
        Err(Unreadable::Body(status)) => return failure("", &Problem::new(status, "invalid_input", "no body")),
        Err(_) => return failure("", &Problem::invalid("the body is a JSON object")),
    };
    let name = sent.get("task").and_then(Value::as_str).unwrap_or_default().to_owned();
    let new = call_options(&headers).and_then(|options| Ok((new_task(&app, &name, sent)?, options)));
    let added = match new {
        Ok((new, options)) => run(&app, new, options).await,
        Err(problem) => Err(problem),
    };
    match added {
        Ok(task) => outcome(&name, &task),
        Err(problem) => failure(&name, &problem),
    }
}

fn new_task(app: &App, name: &str, mut sent: Map<String, Value>) -> Result<NewTask, Problem> {
    if name.is_empty() {
        return Err(Problem::invalid("task is required"));
    }
    let programs = &app.options.task_programs;
    let image = sent.get("image").and_then(Value::as_str);
    let kind = image.and_then(|image| container(programs, image, name)).or_else(|| {
        let configured = programs.programs.contains_key(name)
            || programs.containers.contains_key(name)
            || programs.services.contains_key(name);
        (configured || SAMPLES.contains(&name)).then_some(name)
    });
    let kind = kind.ok_or_else(|| Problem::invalid("no task of this name is allowed, and no such image"))?;
    let params = sent.shift_remove("params").unwrap_or_default();
    let task = NewTask::new(EXECUTE, params);
    let new = NewTask { kind: Some(kind.to_owned()), attempts: Some(ATTEMPTS), backoff: Some(BACKOFF), ..task };
    app.check_task(&new)?;
    Ok(new)
}

/// The kind that runs `image`: the one named as the task where there are several. The configuration says which digest it is, so a tag
/// says nothing more.
fn container<'a>(programs: &'a TaskPrograms, image: &str, task: &str) -> Option<&'a str> {
    let fits = |allowed: &str| allowed == image || repository(allowed) == repository(image);
    let found = programs.containers.iter().filter(|(_, definition)| fits(&definition.image));
    let mut found: Vec<&str> = found.map(|(name, _)| name.as_str()).collect();
    found.sort_by_key(|name| *name != task);
    found.first().copied()
}

/// An image's name without digest and tag.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

async fn run(app: &App, new: NewTask, options: CallOptions) -> Result<Task, Problem> {
    let added = app.enqueue(new, options).await.map_err(refused)?.task;
    app.wait_for_task(added.id, app.options.execute_timeout).await;
    Ok(app.task(added.id).await?.unwrap_or(added))
}

fn outcome(name: &str, task: &Task) -> Response {
    let place = format!("/v1/tasks/{}", task.id);
    match task.state {
        TaskState::Completed => {
            let result = task.result.as_ref().map_or("null", |result| result.text());
            let message = Value::from(format!("Tarea {name} ejecutada exitosamente"));
            crate::page::json(format!("{{\"message\":{message},\"result\":{result}}}"))
        }
        TaskState::Failed | TaskState::Cancelled => {
            let why = task.error.clone().unwrap_or_else(|| "the task was cancelled".to_owned());
            let status = blame(task.state, &why);
            // What a failure of the server's side does not say here, the task does.
            ([(LOCATION, place)], failure(name, &Problem::new(status, "task_failed", why))).into_response()
        }
        state => {
            let message = format!("Tarea {name} en ejecución");
            let body = json!({ "message": message, "id": task.id, "status": state.name(), "location": place });
            (StatusCode::ACCEPTED, [(LOCATION, place)], Json(body)).into_response()
        }
    }
}

/// Who has to mend what failed: 400 is the caller, 502 and 504 are what was run, the rest is the server. A kind's code stands before
/// its message; what has none, as the death of a worker, is never the caller's.
fn blame(state: TaskState, why: &str) -> StatusCode {
    if state == TaskState::Cancelled {
        return error::status(ErrorKind::Cancelled);
    }
    match why.split_once(": ").map_or("", |(code, _)| code) {
        "invalid_input" | "too_large" | "refused" => StatusCode::BAD_REQUEST,
        "time_limit" | "cpu_limit" => StatusCode::GATEWAY_TIMEOUT,
        "status" | "signal" | "killed" | "unknown" | "output_limit" | "output_format" | "file_limit"
        | "process_limit" | "service_status" | "service_away" => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn failure(name: &str, problem: &Problem) -> Response {
    let message = format!("Error al ejecutar la tarea {name}");
    let body = if problem.status.is_client_error() {
        json!({ "message": message.trim_end(), "detail": problem.detail })
    } else {
        json!({ "message": message.trim_end() })
    };
    let mut response = (problem.status, Json(body)).into_response();
    if let Some(seconds) = problem.seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use kappa_core::kinds::{Failure, Kinds, Setup};
    use kappa_core::runner::ContainerDefinition;

    use super::*;

    /// A sample that is listed here and does not exist would be stored, and fail for every caller.
    #[test]
    fn every_sample_is_a_built_in_kind() {
        let kinds = Kinds::built_in(&Setup::default());
        for sample in SAMPLES {
            assert!(kinds.contains(sample), "{sample}");
        }
    }

    /// A caller who is told that what it sent is wrong mends nothing while a program crashes, and one who is told that the server failed
    /// sends the same wrong numbers for ever.
    #[test]
    fn only_what_the_caller_can_mend_is_a_bad_request() {
        for (code, status) in [
            ("invalid_input", 400),
            ("too_large", 400),
            ("refused", 400),
            ("status", 502),
            ("service_status", 502),
            ("signal", 502),
            ("service_away", 502),
            ("output_format", 502),
            ("time_limit", 504),
            ("cpu_limit", 504),
            ("engine", 500),
            ("no_such_kind", 500),
            ("not_started", 500),
            ("cancelled", 500),
        ] {
            let failure = Failure::lasting(code, "a: b");
            assert_eq!(blame(TaskState::Failed, &failure.to_string()).as_u16(), status, "{code}");
        }
        for why in ["the worker died, or could not renew the lease in time", "invalid_input", ""] {
            assert_eq!(blame(TaskState::Failed, why).as_u16(), 500, "{why}");
        }
        assert_eq!(blame(TaskState::Cancelled, "invalid_input: x").as_u16(), 503);
    }

    /// A request that chose its own image by a lucky prefix would run what nobody allowed.
    #[test]
    fn only_an_image_of_the_configuration_selects_a_container() {
        let digest = format!("registry.test:5000/example/task-sum@sha256:{}", "a".repeat(64));
        let definition = json!({ "image": digest });
        let definition: ContainerDefinition = serde_json::from_value(definition).expect("a definition");
        let containers = [("big_sum".to_owned(), definition)].into();
        let programs = TaskPrograms { containers, ..TaskPrograms::default() };
        for good in [&digest, "registry.test:5000/example/task-sum", "registry.test:5000/example/task-sum:latest"] {
            assert_eq!(container(&programs, good, "sum"), Some("big_sum"), "{good}");
        }
        for bad in
            ["example/task-sum", "registry.test:5000/example/task-summary", "", "registry.test", "registry.test:5000"]
        {
            assert_eq!(container(&programs, bad, "sum"), None, "{bad}");
        }
    }
}
