//! Values as the cells of a table, there and back.

use serde::Deserialize;
use serde_json::{Number, Value};

/// What a column holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// Text, as it stands.
    #[default]
    Text,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON.
    Json,
}

impl Column {
    /// The value in a cell; none where the cell is empty.
    ///
    /// # Errors
    /// What was expected.
    pub fn read(self, cell: &str) -> Result<Option<Value>, &'static str> {
        if cell.is_empty() {
            return Ok(None);
        }
        let value = match self {
            Self::Text => return Ok(Some(Value::String(cell.to_owned()))),
            Self::Number => cell.trim().parse::<Number>().ok().map(Value::Number).ok_or("a number"),
            Self::Boolean => match cell.trim() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err("true or false"),
            },
            Self::Json => serde_json::from_str(cell).map_err(|_| "JSON"),
        };
        value.map(Some)
    }
}

/// The cell of a value: text as it stands, nothing for a field that is missing, JSON for everything else.
pub fn cell(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A post code that loses its zeros, a price that loses its digits.
    #[test]
    fn values_survive_a_table() {
        for (column, value) in [
            (Column::Text, json!("00712")),
            (Column::Number, serde_json::from_str("12345678901234567890.10").expect("JSON")),
            (Column::Boolean, json!(false)),
            (Column::Json, json!({"a": [1, null, "x"]})),
        ] {
            assert_eq!(column.read(&cell(Some(&value))), Ok(Some(value)));
        }
        assert_eq!(Column::Json.read(&cell(None)), Ok(None));
        for (column, text) in [(Column::Number, "x"), (Column::Boolean, "1"), (Column::Json, "{")] {
            assert!(column.read(text).is_err(), "{text}");
        }
    }
}
