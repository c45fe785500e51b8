//! Arguments with places for parameters. Each template gives one argument, whatever the parameter holds.

use std::ffi::OsString;

use serde_json::Value;

use crate::error::{Error, Result};

/// A longer parameter belongs into the standard input.
const MAX_VALUE_BYTES: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Parameter(String),
}

/// The arguments of a program.
#[derive(Clone, Debug, Default)]
pub struct Template(Vec<Vec<Piece>>);

impl Template {
    /// Reads templates.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument where a brace stands alone or a name is more or less than letters, digits, `_`, `-`
    /// and `.`.
    pub fn new(arguments: &[String]) -> Result<Self> {
        let read = arguments.iter().enumerate().map(|(position, text)| {
            pieces(text).ok_or_else(|| {
                let error = Error::invalid("in an argument, {name} is a parameter and {{ or }} a brace");
                error.with("field", "arguments").with("position", position).with("argument", text)
            })
        });
        Ok(Self(read.collect::<Result<_>>()?))
    }

    /// The arguments of a task with these parameters.
    ///
    /// # Errors
    /// `InvalidInput` naming a parameter that is missing, neither a text nor a number nor a boolean, too long, or would be taken for an option.
    pub fn fill(&self, params: &Value) -> Result<Vec<OsString>> {
        self.0.iter().map(|pieces| argument(pieces, params).map(OsString::from)).collect()
    }
}

fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let (brace, behind) = rest[at..].split_at(1);
        if let Some(behind) = behind.strip_prefix(brace) {
            plain.push_str(brace);
            rest = behind;
            continue;
        }
        let (name, behind) = behind.split_once('}')?;
        // Anything else between braces is most likely a shell's or JSON's own.
        if brace == "}" || name.is_empty() || !name.chars().all(|char| char.is_alphanumeric() || "_-.".contains(char)) {
            return None;
        }
        pieces.push(Piece::Text(std::mem::take(&mut plain)));
        pieces.push(Piece::Parameter(name.to_owned()));
        rest = behind;
    }
    plain.push_str(rest);
    pieces.push(Piece::Text(plain));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Some(pieces)
}

fn argument(pieces: &[Piece], params: &Value) -> Result<String> {
    let mut argument = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => argument.push_str(text),
            Piece::Parameter(name) => {
                let value = value(name, params)?;
                // Otherwise whoever enqueues the task chooses among the program's options.
                if argument.is_empty() && value.starts_with('-') && value.parse::<f64>().is_err() {
                    let error = Error::invalid("a parameter that makes an argument does not begin with a dash");
                    return Err(error.with("parameter", name));
                }
                argument.push_str(&value);
            }
        }
    }
    Ok(argument)
}

fn value(name: &str, params: &Value) -> Result<String> {
    let text = match params.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(truth)) => truth.to_string(),
        _ => {
            let error = Error::invalid("this kind needs a parameter that is a text, a number or a boolean");
            return Err(error.with("parameter", name));
        }
    };
    if text.len() > MAX_VALUE_BYTES || text.contains('\0') {
        let error = Error::invalid("a parameter that makes an argument has at most 4 096 bytes, none of them zero");
        return Err(error.with("parameter", name));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str, params: &Value) -> Result<String> {
        let arguments = Template::new(&[template.to_owned()])?.fill(params)?;
        let [argument] = arguments.as_slice() else { panic!("{arguments:?}") };
        Ok(argument.to_str().expect("text").to_owned())
    }

    /// Each of these once turned a value into a second argument, an option or a command somewhere.
    #[test]
    fn a_value_stays_one_argument_and_no_option() {
        let params =
            json!({"a": "x y", "n": -5, "t": true, "o": "--output=/etc/passwd", "s": "; rm -rf / $(id) `id` \n'\""});
        for (template, expected) in [
            ("plain", "plain"),
            ("{a}", "x y"),
            ("--size={n}", "--size=-5"),
            ("{n}", "-5"),
            ("{t}{n}", "true-5"),
            ("--file={o}", "--file=--output=/etc/passwd"),
            ("{s}", "; rm -rf / $(id) `id` \n'\""),
            ("{{{a}}}", "{x y}"),
            ("{{a}}", "{a}"),
            ("", ""),
        ] {
            assert_eq!(fill(template, &params).expect(template), expected);
        }
        for template in ["{o}", "{missing}"] {
            let error = fill(template, &params).expect_err(template).to_string();
            assert!(error.contains(&format!("parameter={}", &template[1..template.len() - 1])), "{error}");
        }
        for value in
            [json!("\0"), json!("x".repeat(4_097)), json!(null), json!([1]), json!({}), json!("-"), json!("-x")]
        {
            assert!(fill("{v}", &json!({ "v": value })).is_err(), "{value}");
        }
        assert!(fill("{a}", &json!(["x"])).is_err(), "a list has no names");
    }

    #[test]
    fn a_lone_brace_is_a_mistake() {
        for template in ["{", "}", "{}", "a{b", "a}b", "{a{b}}", "{{}", "{\"a\":1}", "{ a; }"] {
            let error = Template::new(&["fine".to_owned(), template.to_owned()]).expect_err(template).to_string();
            assert!(error.contains("position=1"), "{error}");
        }
    }
}
