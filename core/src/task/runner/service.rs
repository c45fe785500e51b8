//! A kind that is a server's: `POST /task/<name>` with `{"params": ...}` answers `{"result": ...}`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::error::{Error, Result};
use crate::executor::remote::address::Address;
use crate::task::kinds::{Context, Failure, Kind, Outcome};

use super::definitions::ServiceDefinition;

/// How often cancellation is looked for.
const LOOK: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a failure shows of an answer that is none.
const SHOWN_BYTES: usize = 500;
/// Answers that speak of what the task brought. The others of 4xx speak of the configuration: its address, its rights.
const OF_THE_TASK: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];
/// Tells the server which run asks, so that it can refuse one that was replaced.
const FENCE_HEADER: &str = "kappa-task-fence";

/// Asks a server of the configuration.
pub struct CallService {
    url: String,
    limit: Duration,
    answer_bytes: usize,
}

impl CallService {
    /// The kind `name` that `definition` describes.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that is wrong; `Unsupported` for an https address.
    pub fn new(name: &str, definition: &ServiceDefinition) -> Result<Self> {
        let ServiceDefinition { address, task, seconds, answer_bytes } = definition;
        let address = Address::new(address, None).map_err(|error| error.with("field", "address"))?;
        let task = task.as_deref().unwrap_or(name);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if task.is_empty() || !task.bytes().all(plain) {
            let error = Error::invalid("a service's task is letters, digits, _ and -").with("field", "task");
            return Err(error.with("task", task));
        }
        Ok(Self {
            url: format!("{}/task/{task}", address.base()),
            limit: Duration::from_secs(*seconds),
            answer_bytes: usize::try_from(*answer_bytes).expect("checked to be at most 1 MiB"),
        })
    }

    async fn ask(&self, body: String, fence: String) -> Outcome {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let request = Request::post(&self.url).header(CONTENT_TYPE, "application/json").header(FENCE_HEADER, fence);
        let request = request.body(Full::new(Bytes::from(body))).expect("the address was checked");
        let response = client.request(request).await.map_err(|error| self.away(&error))?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, self.answer_bytes).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let message = format!("the answer of {} is over its limit of {} bytes", self.url, self.answer_bytes);
                return Err(Failure::lasting("output_limit", message));
            }
            Err(error) => return Err(self.away(&*error)),
        };
        if head.status == StatusCode::OK { self.result(&body) } else { Err(self.refusal(head.status, &body)) }
    }

    fn away(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut innermost = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        Failure::passing("service_away", format!("{} does not answer: {innermost}", self.url))
    }

    fn result(&self, body: &[u8]) -> Outcome {
        let fields = match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Some(fields),
            _ => None,
        };
        fields.and_then(|mut fields| fields.remove("result")).ok_or_else(|| {
            let message = format!("{} answered something else than {{\"result\": ..}}: {}", self.url, shown(body));
            Failure::lasting("output_format", message)
        })
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Failure {
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        let message = format!("{} answered {}: {}", self.url, status.as_u16(), shown(body));
        match status {
            _ if OF_THE_TASK.contains(&status) => Failure::lasting("refused", message),
            _ if status.is_client_error() && !later.contains(&status) => Failure::lasting("service_status", message),
            _ => Failure::passing("service_status", message),
        }
    }
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).trim().to_owned()
}

impl Kind for CallService {
    /// What it takes, the server alone knows.
    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let body = json!({"params": context.params()}).to_string();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            Failure::passing("unavailable", format!("the machine gives nothing to wait with: {error}"))
        })?;
        runtime.block_on(async {
            let mut answer = std::pin::pin!(self.ask(body, context.fence()));
            let mut late = std::pin::pin!(sleep(self.limit));
            loop {
                tokio::select! {
                    answer = &mut answer => return answer,
                    () = &mut late => {
                        let message = format!("{} took longer than {} s", self.url, self.limit.as_secs());
                        return Err(Failure::passing("time_limit", message));
                    }
                    () = sleep(LOOK) => if context.cancelled() {
                        return Err(Failure::cancelled());
                    },
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
