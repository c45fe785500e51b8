//! From a seed to independent streams of random words.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::env::Entropy;

/// The largest integer up to which a double holds every integer.
const EXACT_IN_DOUBLE_BITS: u32 = 53;

/// What a family of streams is for, mixed into the key: with one key the two methods would turn the same random words
/// into two answers that look independent and are not.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Draw,
    Multinomial,
}

/// All streams of one seed and purpose.
#[derive(Clone, Debug)]
pub struct Keystream(ChaCha8Rng);

impl Keystream {
    /// The key is the seed in eight little-endian bytes and a label in 24; part of what makes seeds portable, so a
    /// change here changes every answer.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let label: &[u8; 24] = match purpose {
            Purpose::Draw => b"kappa.random.draw\0\0\0\0\0\0\0",
            Purpose::Multinomial => b"kappa.random.multinomial",
        };
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].copy_from_slice(label);
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Stream `number` from its start; streams of different numbers never overlap.
    pub fn stream(&self, number: u64) -> ChaCha8Rng {
        let mut stream = self.0.clone();
        stream.set_stream(number);
        stream
    }
}

/// A seed for a request that names none, small enough for JSON readers that know only doubles.
pub fn fresh_seed(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes) >> (u64::BITS - EXACT_IN_DOUBLE_BITS)
}
