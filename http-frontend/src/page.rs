//! Lists over HTTP: what a query may ask for, and pages as JSON whose documents are passed through as they are stored.

use axum::extract::{FromRequestParts, Query};
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use kappa_core::{CollectionName, Direction, Entry, ListRequest, Order};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Problem;

/// Documents of a page that names no limit.
const DEFAULT_LIMIT: usize = 100;

/// A query string as a type; what does not fit is a problem.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri).map_err(|rejection| Problem::invalid(rejection.body_text()))?;
        let Query(value) = query;
        Ok(Self(value))
    }
}

/// From which end a list runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Towards {
    /// From the first to the last.
    #[default]
    Forward,
    /// From the last to the first.
    Backward,
}

/// What a list may be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// At most this many documents, 1 to 1 000; 100 where none is given.
    #[param(required = false, minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// The cursor `next` of the page before.
    #[param(required = false)]
    pub after: Option<String>,
    /// The index to order by; the order of creation where none is given.
    #[param(required = false)]
    pub by: Option<String>,
    /// The first value of the index wanted. A value is JSON; text that is not JSON is a string.
    #[param(required = false)]
    pub from: Option<String>,
    /// The last value of the index wanted, itself included.
    #[param(required = false)]
    pub to: Option<String>,
    /// The only value of the index wanted.
    #[param(required = false)]
    pub equal: Option<String>,
    /// From which end.
    #[param(required = false, inline)]
    pub direction: Option<Towards>,
    /// Ids separated by commas: answers these documents in this order, null for those that do not exist.
    #[param(required = false)]
    pub ids: Option<String>,
    /// Answers only `{"count": n}`.
    #[param(required = false)]
    pub count: bool,
}

impl ListQuery {
    /// The same as core knows it.
    ///
    /// # Errors
    /// 400 for a range without an index, or for `equal` beside `from` or `to`.
    pub fn request(&self, collection: CollectionName) -> Result<ListRequest, Problem> {
        let order = match &self.by {
            None if self.from.is_some() || self.to.is_some() || self.equal.is_some() => {
                return Err(Problem::invalid("from, to and equal need an index: by=name"));
            }
            None => Order::Creation,
            Some(index) => {
                let (from, to) = self.range()?;
                Order::Index { index: index.clone(), from, to }
            }
        };
        let direction = match self.direction.unwrap_or_default() {
            Towards::Forward => Direction::Forward,
            Towards::Backward => Direction::Backward,
        };
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        Ok(ListRequest { collection, order, direction, limit, after: self.after.clone() })
    }

    fn range(&self) -> Result<(Option<Value>, Option<Value>), Problem> {
        let (from, to) = (self.from.as_deref().map(value), self.to.as_deref().map(value));
        match self.equal.as_deref().map(value) {
            None => Ok((from, to)),
            Some(_) if from.is_some() || to.is_some() => Err(Problem::invalid("equal goes alone, without from and to")),
            Some(equal) => Ok((Some(equal.clone()), Some(equal))),
        }
    }
}

/// `text` as JSON where it is JSON, else as a string.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// `{"items":[...],"next":...}` with a `Link` to the next page of the same query.
pub fn page(uri: &Uri, documents: &[Entry], next: Option<&str>) -> Response {
    let mut body = items(documents.iter().map(Some));
    body.extend_from_slice(b",\"next\":");
    serde_json::to_writer(&mut body, &next).expect("a cursor is a string");
    body.push(b'}');
    let mut response = json(body);
    link_next(&mut response, uri, next);
    response
}

/// Adds the `Link` to the page behind `next`, where there is one.
pub fn link_next(response: &mut Response, uri: &Uri, next: Option<&str>) {
    let Some(next) = next else { return };
    if let Ok(link) = HeaderValue::try_from(format!("<{}>; rel=\"next\"", next_uri(uri, next))) {
        response.headers_mut().insert(LINK, link);
    }
}

/// `{"items":[...]}` with null for what does not exist.
pub fn many(documents: &[Option<Entry>]) -> Response {
    let mut body = items(documents.iter().map(Option::as_ref));
    body.push(b'}');
    json(body)
}

/// The open object `{"items":[...]` without its end.
fn items<'a>(documents: impl Iterator<Item = Option<&'a Entry>>) -> Vec<u8> {
    let mut body = b"{\"items\":[".to_vec();
    for (index, entry) in documents.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(entry.map_or("null", |entry| entry.document.text()).as_bytes());
    }
    body.push(b']');
    body
}

/// An answer that is JSON already.
pub fn json(body: impl Into<axum::body::Body>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.into()).into_response()
}

fn next_uri(uri: &Uri, next: &str) -> String {
    let asked = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(asked.filter(|(name, _)| name != "after")).append_pair("after", next);
    format!("{}?{}", uri.path(), query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_or_else_a_string() {
        assert_eq!(value("12.50").to_string(), "12.50");
        assert_eq!(value("\"12\""), Value::String("12".into()));
        assert_eq!(value("null"), Value::Null);
        assert_eq!(value("teclado"), Value::String("teclado".into()));
    }

    /// A link that drops part of the query would make the second page belong to another list.
    #[test]
    fn the_link_keeps_the_query_and_replaces_the_cursor() {
        let uri: Uri = "/v1/products?by=price&after=old&limit=2&from=%22a%26b%22".parse().expect("a path");
        assert_eq!(next_uri(&uri, "new"), "/v1/products?by=price&limit=2&from=%22a%26b%22&after=new");
    }

    #[test]
    fn a_range_needs_an_index_and_equal_goes_alone() {
        let name = CollectionName::new("products").expect("a name");
        let refused = |query: ListQuery| query.request(name.clone()).expect_err("refused").status.as_u16();
        assert_eq!(refused(ListQuery { from: Some("1".into()), ..Default::default() }), 400);
        let both = ListQuery { by: Some("price".into()), ..Default::default() };
        assert_eq!(refused(ListQuery { equal: Some("1".into()), to: Some("2".into()), ..both.clone() }), 400);
        let request = ListQuery { equal: Some("1".into()), ..both }.request(name.clone()).expect("allowed");
        let one = Some(value("1"));
        assert_eq!(request.order, Order::Index { index: "price".into(), from: one.clone(), to: one });
    }
}
