//! `/api/randoms?cant=N`: how often each number from 1 to 1000 came up.

use std::fmt::Write;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use kappa_core::ErrorKind;
use kappa_core::random::{DEFAULT_COUNT, Histogram, HistogramRequest, Method};
use url::form_urlencoded;

use super::errors::shop;
use crate::app::App;
use crate::draws::MAX_COUNT;
use crate::page::json;

/// Draws `cant` numbers, 100 000 000 where it is not given.
pub async fn randoms(State(app): State<App>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let sent = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "cant");
    let Some(count) = sent.map_or(Some(DEFAULT_COUNT), |(_, text)| count(&text)) else {
        return shop(StatusCode::BAD_REQUEST, "valor de parámetro inválido");
    };
    let request = HistogramRequest::new().range(1..=1_000);
    match app.draws.run(request, (count, Method::Draw), app.options.draw_timeout, text).await {
        Ok(text) => json(text),
        Err(error) if error.kind() == ErrorKind::Overloaded => {
            let response = shop(StatusCode::TOO_MANY_REQUESTS, "demasiados cálculos simultáneos, intente más tarde");
            ([(RETRY_AFTER, "1")], response).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a draw failed");
            shop(StatusCode::INTERNAL_SERVER_ERROR, "error interno del servidor")
        }
    }
}

/// A whole number above zero; decimals are cut off.
fn count(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = (!whole.is_empty() && digits(whole) && digits(decimals)).then(|| whole.parse().ok())??;
    (1..=MAX_COUNT).contains(&count).then_some(count)
}

/// `{"1":n,...}` with the numbers that came up.
fn text(histogram: &Histogram) -> String {
    let mut text = String::from("{");
    for (value, count) in histogram.iter().filter(|(_, count)| *count > 0) {
        let comma = if text.len() > 1 { "," } else { "" };
        write!(text, "{comma}\"{value}\":{count}").expect("a string takes any text");
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these once started a process that counted for minutes or for ever.
    #[test]
    fn only_sensible_counts_are_drawn() {
        for (text, expected) in
            [("1", 1), ("20000", 20_000), ("10000000000", MAX_COUNT), ("7.9", 7), ("007", 7), ("5.", 5)]
        {
            assert_eq!(count(text), Some(expected), "cant={text}");
        }
        let huge = format!("1{}", "0".repeat(30));
        for bad in [
            "",
            "0",
            "0.5",
            "-1",
            "abc",
            "12abc",
            "1e3",
            "+5",
            " 5",
            "NaN",
            "Infinity",
            "10000000001",
            &huge,
            ".5",
            "1.2.3",
        ] {
            assert_eq!(count(bad), None, "cant={bad}");
        }
    }
}
