//! Errors as the JSON text that `lib/errors.cjs` turns into classes.

use kappa_core::{Error, ErrorKind};
use napi_derive::napi;
use serde_json::{Map, Value, json};

use crate::guard::export;

/// The text of `error` that crosses into JavaScript.
pub fn to_json(error: &Error) -> String {
    let context = error.context().iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
    json!({
        "code": error.kind().code(),
        "retryable": error.kind().is_retryable(),
        "message": error.to_string(),
        "operation": error.operation(),
        "context": context.collect::<Map<_, _>>(),
    })
    .to_string()
}

/// Text in an argument that does not have the shape it should.
pub fn malformed(what: &'static str) -> impl FnOnce(serde_json::Error) -> Error {
    move |error| Error::invalid(what).caused_by(error)
}

/// For tests: the code of every kind of error.
#[napi(js_name = "_kinds")]
pub fn kinds() -> napi::Result<Vec<&'static str>> {
    export("_kinds", || Ok(ErrorKind::ALL.iter().map(|kind| kind.code()).collect()))
}

/// For tests: fails with the kind whose code is `code`.
#[napi(js_name = "_raise")]
pub fn raise(code: String) -> napi::Result<()> {
    export("_raise", || {
        let kind = ErrorKind::ALL.iter().find(|kind| kind.code() == code);
        let kind = *kind.ok_or_else(|| Error::invalid("no such kind of error").with("code", &code))?;
        Err(Error::new(kind, "raised for a test").with("code", &code).during("raise"))
    })
}
