//! `hash` and `text_inversion`: what can be made of a text.

use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use unicode_segmentation::UnicodeSegmentation;

use crate::error::Result;
use crate::task::kinds::{Context, Kind, Outcome, parameters};

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Algorithm {
    #[default]
    Sha256,
    Sha512,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashParameters {
    text: String,
    #[serde(default)]
    algorithm: Algorithm,
}

/// The SHA-256 or SHA-512 of a text's UTF-8 bytes in hexadecimal digits: `["abc"]`, or
/// `{"text": "abc", "algorithm": "sha512"}`.
pub struct Hash;

impl Hash {
    fn read(params: &Value) -> Result<HashParameters> {
        parameters::read_listed(params, &["text", "algorithm"])
    }
}

impl Kind for Hash {
    fn check(&self, params: &Value) -> Result<()> {
        Self::read(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let HashParameters { text, algorithm } = Self::read(context.params())?;
        let hash = match algorithm {
            Algorithm::Sha256 => HEXLOWER.encode(&Sha256::digest(text)),
            Algorithm::Sha512 => HEXLOWER.encode(&Sha512::digest(text)),
        };
        Ok(json!(hash))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InversionParameters {
    text: String,
}

/// A text from its end to its start, `["abc"]` gives `"cba"`; what readers see as one character stays whole.
pub struct Inversion;

impl Inversion {
    fn read(params: &Value) -> Result<InversionParameters> {
        parameters::read_listed(params, &["text"])
    }
}

impl Kind for Inversion {
    fn check(&self, params: &Value) -> Result<()> {
        Self::read(params).map(drop)
    }

    fn run(&self, context: &dyn Context) -> Outcome {
        let InversionParameters { text } = Self::read(context.params())?;
        Ok(json!(text.graphemes(true).rev().collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Stage;
    use super::*;

    /// The examples of FIPS 180-2.
    #[test]
    fn hashes_are_those_of_the_standard() {
        let hash = |params: Value| Hash.run(&Stage::new(params)).expect("it runs");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(json!(["abc"])), abc);
        assert_eq!(hash(json!({"text": "abc", "algorithm": "sha256"})), abc);
        let long = hash(json!(["abc", "sha512"]));
        assert!(long.as_str().is_some_and(|hash| hash.starts_with("ddaf35a193617aba") && hash.len() == 128), "{long}");
        for params in [json!({}), json!([1]), json!(["abc", "md5"]), json!({"text": "a", "payload": "b"})] {
            assert!(Hash.check(&params).is_err(), "{params}");
        }
    }

    /// Turned round by code points, an accent lands on its neighbour and a family falls apart.
    #[test]
    fn a_text_is_turned_by_what_readers_see() {
        for (text, turned) in
            [("", ""), ("abc", "cba"), ("e\u{301}a", "ae\u{301}"), ("a👩‍👧b", "b👩‍👧a"), ("a\r\nb", "b\r\na")]
        {
            assert_eq!(Inversion.run(&Stage::new(json!([text]))), Ok(json!(turned)), "{text:?}");
        }
        assert!(Inversion.check(&json!(["a", "b"])).is_err());
    }
}
