//! `/v1/randoms`: how often each number of a range comes up among many random draws.
#![expect(unused_qualifications, reason = "the description macro names parameter types by their full path")]

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kappa_core::random::{DEFAULT_COUNT, HistogramRequest, Method};
use kappa_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Problem;
use crate::page::{Params, json};

/// The most values whose counts are sent over HTTP, fewer than core counts: an answer is held in memory until a client that
/// may be slow has taken it, and 2^20 counts are some 10 MB already.
const MAX_VALUES: u64 = 1 << 20;
/// Pixels of the picture.
const PICTURE: (u32, u32) = (960, 480);

/// How the counts come about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Drawing {
    /// Draws every number.
    #[default]
    Draw,
    /// Samples the counts from the exact distribution.
    Multinomial,
}

/// What to draw.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct RandomsQuery {
    /// How many numbers; 100 000 000 where none is given. Method draw takes at most 10 000 000 000.
    #[param(required = false)]
    pub count: Option<u64>,
    /// The first value; 1 where none is given.
    #[param(required = false)]
    pub min: Option<i64>,
    /// The last value, itself included; 1 000 where none is given. A range holds at most 1 048 576 values (2^20).
    #[param(required = false)]
    pub max: Option<i64>,
    /// The same seed gives the same counts.
    #[param(required = false)]
    pub seed: Option<u64>,
    /// How the counts come about; draw where none is given.
    #[param(required = false, inline)]
    pub method: Option<Drawing>,
}

/// How often each value came up.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counts {
    /// How many numbers were drawn.
    count: u64,
    /// The values: `start` and `end`, both included.
    #[schema(value_type = Object)]
    range: (i64, i64),
    /// Gives the same counts again.
    seed: u64,
    /// How the counts came about.
    #[schema(value_type = String)]
    method: &'static str,
    /// Milliseconds it took.
    elapsed_ms: u64,
    /// The counts in the order of the values.
    #[serde(rename = "counts")]
    of_each: Vec<u64>,
}

/// Draws random numbers.
///
/// As many draws at once as there are processors, then 429. A draw stops when its client leaves. With
/// `Accept: image/svg+xml` the answer is a picture.
#[utoipa::path(get, path = "/v1/randoms", tag = "randoms", params(RandomsQuery),
    responses((status = 200, description = "The counts, or their picture", content((Counts = "application/json"), (String = "image/svg+xml"))),
        (status = 413, description = "The range holds more than 1 048 576 values", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "All slots are taken", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused: the problem says why", body = Problem, content_type = "application/problem+json")))]
pub async fn randoms(
    State(app): State<App>,
    Params(query): Params<RandomsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (min, max) = (query.min.unwrap_or(1), query.max.unwrap_or(1_000));
    if max.abs_diff(min) >= MAX_VALUES {
        let detail = format!("the range holds too many values for one answer min={min} max={max} most={MAX_VALUES}");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge.code(), detail));
    }
    let method = match query.method.unwrap_or_default() {
        Drawing::Draw => Method::Draw,
        Drawing::Multinomial => Method::Multinomial,
    };
    let mut request = HistogramRequest::new().range(min..=max);
    if let Some(seed) = query.seed {
        request = request.seed(seed);
    }
    let picture = wants_picture(&headers);
    let size = (query.count.unwrap_or(DEFAULT_COUNT), method);
    let timeout = app.options.draw_timeout;
    let text = app.draws.run(request, size, timeout, move |histogram| {
        if picture {
            return histogram.to_svg(PICTURE.0, PICTURE.1);
        }
        serde_json::to_string(histogram).expect("a histogram is plain data")
    });
    let text = text.await.map_err(problem)?;
    let vary = [(VARY, "accept")];
    if picture {
        return Ok((vary, [(CONTENT_TYPE, "image/svg+xml")], text).into_response());
    }
    Ok((vary, json(text)).into_response())
}

/// Whether the client asks for a picture before JSON: it names SVG, and not JSON earlier.
fn wants_picture(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let place = |media_type: &str| accept.find(media_type).unwrap_or(usize::MAX);
    place("image/svg+xml") < place("application/json")
}

/// A taken slot is this client's turn to wait, not a failure of the server.
fn problem(error: Error) -> Problem {
    if error.kind() == ErrorKind::Overloaded {
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, error.kind().code(), error.to_string()).retry_after(1);
    }
    error.into()
}
