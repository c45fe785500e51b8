//! Counts sampled from their own distribution, without single draws.
//!
//! The range is split in two, the count is split by one binomial sample, and so on down to single values: the same law as
//! that of the draws, because a multinomial conditioned on the sum of a half is again one. Halving keeps the
//! probability near 1/2, where the library's binomial is at its most exact.
//!
//! A binomial above [`PART`] is made as the sum of binomials of at most [`PART`], which is exact since trials are
//! independent. Each level of the tree then costs `count / PART` samples more, about 2 * 10^6 for `u64::MAX`.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};
use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::error::Result;
use crate::random::Control;
use crate::random::keystream::{Keystream, Purpose};

/// The most trials of one library sample. The library works in doubles, whose rounding shows in the variance from
/// about 10^14 trials on; at 10^13 no deviation was found.
const PART: u64 = 10_000_000_000_000;

/// Parts that share one stream: the unit of parallel work inside one split.
const BLOCK: u64 = 1 << 10;

/// Ranges up to this width and counts up to [`PART`] are sampled on one thread from one stream.
const LEAF_VALUES: usize = 1 << 10;

/// How often each of `values` values came up among `count` draws.
pub fn counts(
    pool: &ThreadPool,
    seed: u64,
    count: u64,
    values: u32,
    threads: usize,
    control: &Control,
) -> Result<Vec<u64>> {
    let levels = u64::from(values.next_power_of_two().ilog2());
    control.start(u64::from(values) + levels * (count / PART));
    control.check()?;
    // All threads of the pool: let its work stealing balance them. Fewer: each split of the range also splits them.
    let threads = if threads >= pool.current_num_threads() { usize::MAX } else { threads };
    let tree = Tree { keystream: Keystream::new(seed, Purpose::Multinomial), control };
    let mut counts = vec![0; values as usize];
    pool.install(|| tree.split(1, count, &mut counts, threads))?;
    Ok(counts)
}

struct Tree<'a> {
    keystream: Keystream,
    control: &'a Control,
}

impl Tree<'_> {
    /// Spreads `count` draws over `counts`. `node` numbers the halves as in a heap: children `2 * node`, `2 * node + 1`.
    fn split(&self, node: u64, count: u64, counts: &mut [u64], threads: usize) -> Result<()> {
        self.control.check()?;
        if counts.len() == 1 || (counts.len() <= LEAF_VALUES && count <= PART) {
            leaf(&mut self.keystream.stream(stream_number(node, 0)), count, counts);
            self.control.advance(counts.len() as u64);
            return Ok(());
        }
        let (width, half) = (counts.len(), counts.len() / 2);
        let in_left = self.binomial(node, count, half as f64 / width as f64, threads)?;
        let (left, right) = counts.split_at_mut(half);
        if threads == 1 {
            self.split(2 * node, in_left, left, 1)?;
            return self.split(2 * node + 1, count - in_left, right, 1);
        }
        let (left, right) = rayon::join(
            || self.split(2 * node, in_left, left, threads / 2),
            || self.split(2 * node + 1, count - in_left, right, threads - threads / 2),
        );
        left.and(right)
    }

    /// Successes among `count` trials, over at most `threads` threads.
    fn binomial(&self, node: u64, count: u64, probability: f64, threads: usize) -> Result<u64> {
        let parts = count.div_ceil(PART);
        let blocks = parts.div_ceil(BLOCK);
        let block_successes = |block: u64| {
            self.control.check()?;
            let first = block * BLOCK;
            let trials = (count - first * PART).min(BLOCK * PART);
            let mut stream = self.keystream.stream(stream_number(node, block));
            self.control.advance(trials / PART);
            Ok(sum_of_parts(&mut stream, trials, probability))
        };
        if threads == 1 {
            return (0..blocks).map(block_successes).sum();
        }
        let blocks = blocks as usize;
        let run = blocks.div_ceil(threads).max(1);
        (0..blocks).into_par_iter().with_min_len(run).map(|block| block_successes(block as u64)).sum()
    }
}

/// Node numbers stay below 2^25 and blocks below 2^12, so no two splits share a stream.
fn stream_number(node: u64, block: u64) -> u64 {
    node << 32 | block
}

/// Spreads `count` draws over `counts` from one stream.
fn leaf(stream: &mut ChaCha8Rng, count: u64, counts: &mut [u64]) {
    if let [only] = counts {
        *only = count;
    } else if count > 0 {
        let (width, half) = (counts.len(), counts.len() / 2);
        let in_left = sum_of_parts(stream, count, half as f64 / width as f64);
        let (left, right) = counts.split_at_mut(half);
        leaf(stream, in_left, left);
        leaf(stream, count - in_left, right);
    }
}

/// Successes among `trials`, in parts that the library samples exactly.
fn sum_of_parts(stream: &mut ChaCha8Rng, trials: u64, probability: f64) -> u64 {
    let binomial = |trials| Binomial::new(trials, probability).expect("the probability lies between 0 and 1");
    let whole = binomial(PART);
    let wholes: u64 = (0..trials / PART).map(|_| whole.sample(stream)).sum();
    wholes + binomial(trials % PART).sample(stream)
}
