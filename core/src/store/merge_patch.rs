//! JSON Merge Patch (RFC 7396).

use serde_json::{Map, Value};

/// Sets the fields that `patch` names; null removes one, objects are merged field by field. Fields that
/// stay keep their order and their digits.
pub fn apply(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            // `remove` would move the last field into the gap.
            Value::Null => drop(target.shift_remove(name)),
            Value::Object(inner) => {
                let field = target.entry(name.as_str()).or_insert(Value::Null);
                if !field.is_object() {
                    *field = Value::Object(Map::new());
                }
                apply(field.as_object_mut().expect("made an object above"), inner);
            }
            value => drop(target.insert(name.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect(text)
    }

    /// The rows of RFC 7396, appendix A, whose two sides are objects.
    #[test]
    fn the_table_of_the_rfc_holds() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"a":"foo"}"#, r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
        ] {
            let mut merged = object(target);
            apply(&mut merged, &object(patch));
            assert_eq!(serde_json::to_string(&merged).expect("text"), result, "{target} + {patch}");
        }
    }

    #[test]
    fn order_and_digits_of_what_stays_are_kept() {
        let mut target = object(r#"{"id":"1","gone":0,"price":10.50,"big":12345678901234567890.10,"last":true}"#);
        apply(&mut target, &object(r#"{"gone":null,"price":11.00}"#));
        let text = serde_json::to_string(&target).expect("text");
        assert_eq!(text, r#"{"id":"1","price":11.00,"big":12345678901234567890.10,"last":true}"#);
    }
}
