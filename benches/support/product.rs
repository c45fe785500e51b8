//! Made-up products of one size, and numbers that are the same in every run.

/// Numbers without visible order, the same for the same start (`SplitMix64`, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers that follow from `start`.
    pub fn new(start: u64) -> Self {
        Self(start)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(end)) >> 64) as u64
    }
}

/// Bytes of a product's text.
const BYTES: usize = 300;

/// Enough to fill any product.
const DESCRIPTION: &str = "A sturdy everyday thing made of wood and steel that lasts longer than its price suggests, \
    comes with all that is needed to put it up, and can be taken apart and repaired with ordinary tools; in stock in \
    three colours, delivered within two days.";

/// An id as long as those that Kappa makes, and ascending as they do.
pub fn id(number: u64) -> String {
    format!("01890000-0000-7000-8000-{number:012x}")
}

/// A product of 300 bytes without an id.
pub fn product(number: u64) -> String {
    let mut text = String::with_capacity(BYTES);
    text.push('{');
    sized(text, number)
}

/// The same product, whose text begins with `id`; it has 300 bytes with it.
pub fn product_with_id(id: &str, number: u64) -> String {
    sized(format!("{{\"id\":\"{id}\","), number)
}

fn sized(mut text: String, number: u64) -> String {
    use std::fmt::Write;
    let (price, cents) = (number % 100_000, number % 100);
    write!(text, "\"title\":\"Product {number}\",\"price\":{price}.{cents:02},\"stock\":{},", number % 1000)
        .expect("a string takes everything");
    write!(text, "\"thumbnail\":\"https://shop.example/{number}.jpg\",\"description\":\"").expect("as above");
    let fill = BYTES.saturating_sub(text.len() + "\"}".len());
    text.push_str(&DESCRIPTION[..fill]);
    text.push_str("\"}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // The goals are stated for products of 300 bytes: another size would answer another question.
    #[test]
    fn a_product_has_300_bytes() {
        for number in [0, 7, 123_456_789] {
            assert_eq!(product(number).len(), BYTES);
            assert_eq!(product_with_id(&id(number), number).len(), BYTES);
        }
    }
}
