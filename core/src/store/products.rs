//! What makes a document a product, and products that are made up.

use fake::Fake;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use url::Url;

use crate::error::{Error, Result};

use super::document::Document;
use super::fields::{Field, Fields};
use super::order_value::Decimal;

/// Checks the fields that Kappa knows; others are the caller's own.
///
/// # Errors
/// `InvalidInput` naming the field: a title that is no text or empty, a price that is no number from 0
/// up, a thumbnail that is no http, https or ftp URL.
pub fn check(fields: Fields<'_>) -> Result<()> {
    match fields.get("title") {
        Some(Field::String(title)) if !title.trim().is_empty() => {}
        _ => return Err(Error::invalid("a product has a title that is not empty").with("field", "title")),
    }
    match fields.get("price") {
        Some(Field::Number(price)) if is_price(price) => {}
        _ => return Err(Error::invalid("a product has a price, a number from 0 up").with("field", "price")),
    }
    match fields.get("thumbnail") {
        None | Some(Field::Null) => Ok(()),
        Some(Field::String(url)) if is_picture(&url) => Ok(()),
        Some(_) => Err(Error::invalid("a thumbnail is an http, https or ftp URL").with("field", "thumbnail")),
    }
}

/// Products that are made up, with ids from 1: the same for the same seed, and not stored.
pub fn mock(count: usize, seed: u64) -> Vec<Document> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (1..=count).map(|id| mock_one(id, &mut rng)).collect()
}

const THINGS: &[&str] = &[
    "Atún",
    "Bacon",
    "Bicicleta",
    "Camiseta",
    "Coche",
    "Gorro",
    "Guantes",
    "Jabón",
    "Mesa",
    "Ordenador",
    "Pantalones",
    "Pelota",
    "Pescado",
    "Pizza",
    "Pollo",
    "Queso",
    "Ratón",
    "Salchichas",
    "Silla",
    "Teclado",
    "Toallas",
    "Zapatos",
];
const LOOKS: &[&str] = &[
    "Artesanal",
    "Ergonómico",
    "Fantástico",
    "Genial",
    "Guapo",
    "Increíble",
    "Inteligente",
    "Pequeño",
    "Práctico",
    "Rústico",
    "Sabroso",
];
const MATERIALS: &[&str] = &["Acero", "Algodón", "Granito", "Hormigón", "Ladrillo", "Madera", "Metal", "Plástico"];

fn mock_one(id: usize, rng: &mut ChaCha8Rng) -> Document {
    let mut pick = |words: &[&'static str]| words[(0..words.len()).fake_with_rng::<usize, _>(rng)];
    let title = format!("{} {} de {}", pick(THINGS), pick(LOOKS), pick(MATERIALS));
    let price: u32 = (1..1_000).fake_with_rng(rng);
    let picture: u32 = (1..1_000).fake_with_rng(rng);
    let product = json!({
        "id": id.to_string(),
        "title": title,
        "price": price,
        "thumbnail": format!("https://picsum.photos/id/{picture}/100/100"),
    });
    Document::new(&product).expect("a made-up product is one JSON object")
}

/// Whether a number is neither below zero nor beyond what other languages can hold.
fn is_price(text: &str) -> bool {
    // Far from any limit, as nearly all are.
    if text.len() < 100 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return true;
    }
    let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
    finite && Decimal::parse(text).is_some_and(|price| !price.negative)
}

fn is_picture(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "ftp") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_product(text: &str) -> bool {
        check(Document::parse(text.to_owned()).expect(text).read_fields().expect(text)).is_ok()
    }

    #[test]
    fn products_have_a_title_and_a_price() {
        for text in [
            r#"{"title":"Escuadra","price":0}"#,
            r#"{"title":"Regla","price":-0.0,"thumbnail":null}"#,
            r#"{"title":" x ","price":123456789012345678901234567890.123,"thumbnail":"ftp://a.example/x.png","more":{}}"#,
        ] {
            assert!(is_product(text), "{text}");
        }
        for text in [
            r#"{"price":1}"#,
            r#"{"title":" ","price":1}"#,
            r#"{"title":7,"price":1}"#,
            r#"{"title":"x"}"#,
            r#"{"title":"x","price":"1"}"#,
            r#"{"title":"x","price":-0.01}"#,
            r#"{"title":"x","price":1e999}"#,
            r#"{"title":"x","price":null}"#,
            r#"{"title":"x","price":1,"thumbnail":""}"#,
            r#"{"title":"x","price":1,"thumbnail":"javascript:alert(1)"}"#,
            r#"{"title":"x","price":1,"thumbnail":"file:///etc/passwd"}"#,
            r#"{"title":"x","price":1,"thumbnail":5}"#,
        ] {
            assert!(!is_product(text), "{text}");
        }
    }

    /// A demo page that changes between two runs with one seed cannot be compared by a test.
    #[test]
    fn made_up_products_are_products_and_follow_the_seed() {
        let products = mock(50, 7);
        assert_eq!(products, mock(50, 7));
        assert_ne!(products, mock(50, 8));
        for (n, product) in products.iter().enumerate() {
            assert_eq!(product.fields()["id"], (n + 1).to_string());
            check(product.read_fields().expect("its fields")).expect("a made-up product is a product");
        }
        assert_eq!(mock(5, 7), products[..5]);
    }
}
