//! Entity tags: a document's version in quotes, and the conditions of requests on it.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kappa_core::{Error, ErrorKind, Version};

use crate::error::Problem;

/// The strong entity tag of a version.
pub fn etag(version: Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes are a header value")
}

/// The version that `If-Match` asks for; none where it asks for nothing or for any version.
///
/// # Errors
/// 412 for a tag that no document can have, 400 for more than one tag: a write compares with one version.
pub fn if_match(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if values.next().is_some() || text.contains(',') {
        return Err(Problem::invalid("If-Match takes one entity tag here"));
    }
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|inner| inner.parse().ok());
    version.map(Some).ok_or_else(|| Problem::precondition("no document has this entity tag"))
}

/// Whether `If-None-Match` names the version the client would get, so that it need not get it again.
pub fn is_known(headers: &HeaderMap, version: Version) -> bool {
    headers.contains_key(IF_NONE_MATCH) && is_named(headers, &format!("\"{version}\""))
}

/// Whether `If-None-Match` names `own`, an entity tag in its quotes.
pub fn is_named(headers: &HeaderMap, own: &str) -> bool {
    let mut tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.any(|text| text.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == own))
}

/// Whether a write demands that there is no such document yet.
///
/// # Errors
/// 400 for `If-None-Match` with a tag, or beside `If-Match`: dropping either would turn a guarded write into a plain one.
pub fn must_be_new(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut values = headers.get_all(IF_NONE_MATCH).iter();
    let Some(value) = values.next() else { return Ok(false) };
    if value.as_bytes().trim_ascii() != b"*" || values.next().is_some() || headers.contains_key(IF_MATCH) {
        return Err(Problem::invalid("on a write, If-None-Match is * and goes without If-Match"));
    }
    Ok(true)
}

/// Refuses conditions that mean nothing where the request goes: the client relies on them, and would take a plain answer
/// for a guarded one.
///
/// # Errors
/// 400 naming the header.
pub fn refuse(headers: &HeaderMap, conditions: &[HeaderName]) -> Result<(), Problem> {
    match conditions.iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(Problem::invalid(format!("this request takes no condition {name}"))),
        None => Ok(()),
    }
}

/// Every condition, for requests that take none.
pub const CONDITIONS: [HeaderName; 2] = [IF_MATCH, IF_NONE_MATCH];

/// The failure of a write as its conditions have it: a document that is not there has no version, so `If-Match` of any
/// kind fails on it (RFC 9110, 13.1.1).
pub fn failed(headers: &HeaderMap, error: Error) -> Problem {
    if error.kind() == ErrorKind::NotFound && headers.contains_key(IF_MATCH) {
        return Problem::precondition(error.to_string());
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    /// A tag that is silently ignored turns a guarded write into a lost update.
    #[test]
    fn a_condition_is_used_or_refused_but_never_dropped() {
        let cases: &[(&str, Result<Option<u64>, u16>)] = &[
            ("\"12\"", Ok(Some(12))),
            (" \"12\" ", Ok(Some(12))),
            ("*", Ok(None)),
            ("12", Err(412)),
            ("W/\"12\"", Err(412)),
            ("\"abc\"", Err(412)),
            ("\"\"", Err(412)),
            ("\"", Err(412)),
            ("", Err(412)),
            ("\"1\", \"2\"", Err(400)),
            ("\"99999999999999999999999\"", Err(412)),
        ];
        for (text, expected) in cases {
            let found = if_match(&with(IF_MATCH, text));
            let found =
                found.map(|version| version.map(|version| version.0)).map_err(|problem| problem.status.as_u16());
            assert_eq!(&found, expected, "If-Match: {text}");
        }
        assert!(matches!(if_match(&HeaderMap::new()), Ok(None)));
    }

    #[test]
    fn if_none_match_compares_weakly_and_takes_lists() {
        for (text, known) in
            [("\"7\"", true), ("W/\"7\"", true), ("\"6\", \"7\"", true), ("*", true), ("\"77\"", false)]
        {
            assert_eq!(is_known(&with(IF_NONE_MATCH, text), Version(7)), known, "If-None-Match: {text}");
        }
    }

    #[test]
    fn a_write_that_must_be_new_says_so_alone() {
        assert!(matches!(must_be_new(&HeaderMap::new()), Ok(false)));
        assert!(matches!(must_be_new(&with(IF_NONE_MATCH, "*")), Ok(true)));
        assert!(must_be_new(&with(IF_NONE_MATCH, "\"7\"")).is_err());
        let mut both = with(IF_NONE_MATCH, "*");
        both.insert(IF_MATCH, HeaderValue::from_static("\"7\""));
        assert!(must_be_new(&both).is_err());
        let mut twice = with(IF_NONE_MATCH, "*");
        twice.append(IF_NONE_MATCH, HeaderValue::from_static("\"7\""));
        assert!(must_be_new(&twice).is_err());
    }
}
