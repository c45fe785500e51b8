//! Reading what a task was given: fields by name or, for the samples, by position.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The parameters as `T`, which names its fields; nothing at all means none.
///
/// # Errors
/// `InvalidInput` saying which field is wrong.
pub fn read<T: DeserializeOwned>(params: &Value) -> Result<T> {
    read_listed(params, &[])
}

/// As [`read`], and a list of values is taken for the fields `names`, in this order.
///
/// # Errors
/// As [`read`].
pub fn read_listed<T: DeserializeOwned>(params: &Value, names: &[&str]) -> Result<T> {
    let fields = match params {
        Value::Null => Map::new(),
        Value::Object(fields) => fields.clone(),
        Value::Array(values) if !names.is_empty() => {
            if values.len() > names.len() {
                let error = Error::invalid("there are more parameters than the task knows");
                return Err(error.with("given", values.len()).with("known", names.join(", ")));
            }
            names.iter().map(|name| (*name).to_owned()).zip(values.iter().cloned()).collect()
        }
        _ => return Err(Error::invalid("the parameters are a JSON object")),
    };
    // Read from text: from a value the library names neither the value nor what was expected.
    let read = serde_json::from_str(&Value::Object(fields).to_string());
    read.map_err(|error| {
        let words = error.to_string();
        let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
        Error::invalid(format!("the parameters do not fit: {words}"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        a: u64,
        #[serde(default)]
        b: Option<String>,
    }

    /// A caller who mistypes a field must learn its name, not get a default.
    #[test]
    fn fields_come_by_name_or_by_position() {
        let pair = |params: Value| read_listed::<Pair>(&params, &["a", "b"]);
        let one = Pair { a: 1, b: None };
        assert_eq!(pair(json!({"a": 1})).expect("by name"), one);
        assert_eq!(pair(json!([1])).expect("by position"), one);
        for (params, word) in [
            (json!({"a": 1, "c": 2}), "`c`"),
            (json!({"b": "x"}), "`a`"),
            (json!({"a": -1}), "-1"),
            (json!([1, "x", 3]), "known=a, b"),
            (json!("text"), "object"),
            (Value::Null, "`a`"),
        ] {
            let error = pair(params.clone()).expect_err("it does not fit").to_string();
            assert!(error.contains(word), "{params}: {error}");
        }
        assert!(read::<Pair>(&json!([1])).is_err(), "positions only where they are named");
    }
}
