//! Counts by really drawing every number.
//!
//! The draws are cut into chunks of fixed size, each with its own stream, so that it does not matter which thread makes
//! which chunk. A chunk is the first [`CHUNK`] words of its stream that pass the rejection of Lemire's method (Fast Random
//! Integer Generation in an Interval, 2019): without it some values would come up more often than others whenever the
//! number of values does not divide the number of words.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};

use crate::error::Result;
use crate::random::Control;
use crate::random::keystream::{Keystream, Purpose};

/// Draws that share one stream. Part of the answer for a seed: another size gives other counts.
pub const CHUNK: u64 = 1 << 18;

/// The most values that words of 16 bits can tell apart.
const NARROW_VALUES: u32 = 1 << 16;

/// Chunks per worker between two returns to the pool's queue, so that a long run lets others in after some 15 ms.
const SLICE: u64 = 1 << 6;

/// Memory for bins of a wide range over all workers; more workers than fit are not started.
const WIDE_BINS_BYTES: usize = 1 << 30;

/// Words read from the keystream at a time: this, the places computed from it and the bins of 1 000 values fit in L1.
const BATCH: usize = 1 << 12;

/// Bin arrays used in turn, because an increment that follows one of the same bin waits for its store.
const LANES: usize = 4;

/// How often each of `values` values came up among `count` draws.
pub fn counts(
    pool: &ThreadPool,
    seed: u64,
    count: u64,
    values: u32,
    threads: usize,
    control: &Control,
) -> Result<Vec<u64>> {
    control.start(count);
    control.check()?;
    let keystream = Keystream::new(seed, Purpose::Draw);
    let totals = Mutex::new(vec![0; values as usize]);
    let chunks = count.div_ceil(CHUNK);
    let mut workers = workers(values, threads, chunks);
    let slice = SLICE * workers.len() as u64;
    let next = AtomicU64::new(0);
    let mut end = 0;
    while end < chunks {
        end = chunks.min(end + slice);
        pool.install(|| {
            workers.par_iter_mut().with_max_len(1).for_each(|worker| {
                while !control.is_cancelled()
                    && let Some(chunk) = claim(&next, end)
                {
                    let draws = CHUNK.min(count - chunk * CHUNK);
                    worker.draw(&mut keystream.stream(chunk), draws, &totals);
                    control.advance(draws);
                }
            });
        });
        control.check()?;
    }
    for worker in &mut workers {
        worker.flush(&totals);
    }
    Ok(totals.into_inner())
}

fn claim(next: &AtomicU64, end: u64) -> Option<u64> {
    next.try_update(Ordering::Relaxed, Ordering::Relaxed, |chunk| (chunk < end).then_some(chunk + 1)).ok()
}

/// As many workers as threads, chunks and memory allow.
fn workers(values: u32, threads: usize, chunks: u64) -> Vec<Worker> {
    let by_memory = WIDE_BINS_BYTES / (values as usize * size_of::<u32>());
    let by_work = usize::try_from(chunks).unwrap_or(usize::MAX);
    let number = threads.min(by_memory).min(by_work);
    (0..number).map(|_| Worker::new(values)).collect()
}

/// One thread's bins. They stay narrow for speed and are added to the totals before they can overflow.
struct Worker {
    bins: Bins,
    /// Draws in the bins: the most that any one bin can hold.
    held: u64,
}

enum Bins {
    Narrow(Narrow),
    Wide(Wide),
}

impl Worker {
    fn new(values: u32) -> Self {
        let bins =
            if values <= NARROW_VALUES { Bins::Narrow(Narrow::new(values)) } else { Bins::Wide(Wide::new(values)) };
        Self { bins, held: 0 }
    }

    /// Makes `draws` draws, at most [`CHUNK`], from the start of `stream`.
    fn draw(&mut self, stream: &mut ChaCha8Rng, draws: u64, totals: &Mutex<Vec<u64>>) {
        if self.held + draws > u64::from(u32::MAX) {
            self.flush(totals);
        }
        self.held += draws;
        match &mut self.bins {
            Bins::Narrow(narrow) => narrow.draw(stream, draws as usize),
            Bins::Wide(wide) => wide.draw(stream, draws as usize),
        }
    }

    fn flush(&mut self, totals: &Mutex<Vec<u64>>) {
        let mut totals = totals.lock();
        match &mut self.bins {
            Bins::Narrow(narrow) => narrow.lanes.iter_mut().for_each(|lane| drain(&mut lane[..], &mut totals)),
            Bins::Wide(wide) => drain(&mut wide.bins, &mut totals),
        }
        self.held = 0;
    }
}

/// Moves the bins into the totals; what lies behind the last value counted rejections.
fn drain(bins: &mut [u32], totals: &mut [u64]) {
    for (bin, total) in bins.iter_mut().zip(totals) {
        *total += u64::from(*bin);
    }
    bins.fill(0);
}

/// Bins of up to 2^16 values, drawn from words of 16 bits.
///
/// An array of 2^16 bins indexed by a `u16` needs no bounds check; only the part in use is ever touched.
struct Narrow {
    values: u32,
    lanes: [Box<[u32; NARROW_VALUES as usize]>; LANES],
    words: Vec<[u8; 2]>,
    places: Vec<u16>,
}

impl Narrow {
    fn new(values: u32) -> Self {
        let lane = |_| {
            let bins = vec![0; NARROW_VALUES as usize].into_boxed_slice();
            bins.try_into().expect("the slice was made with the length of the array")
        };
        Self { values, lanes: std::array::from_fn(lane), words: vec![[0; 2]; BATCH], places: vec![0; BATCH] }
    }

    fn draw(&mut self, stream: &mut ChaCha8Rng, mut draws: usize) {
        let mut at = BATCH;
        while draws > 0 {
            if at == BATCH {
                stream.fill_bytes(self.words.as_flattened_mut());
                at = 0;
            }
            let taken = draws.min(BATCH - at);
            let rejected = place(&self.words[at..at + taken], &mut self.places[..taken], self.values);
            increment(&mut self.lanes, &self.places[..taken]);
            draws -= taken - rejected;
            at += taken;
        }
    }
}

/// The place of each word among `values` values, and how many words were rejected.
fn place(words: &[[u8; 2]], places: &mut [u16], values: u32) -> usize {
    if let Ok(values) = u16::try_from(values) {
        return place_or_reject(words, places, values);
    }
    for (word, place) in words.iter().zip(places) {
        *place = u16::from_le_bytes(*word);
    }
    0
}

/// A rejected word goes to the place behind the last value instead of past a branch, because with the branch the
/// compiler could not treat many words at once, and the processor could not foresee it. Kept out of line because the
/// compiler stops treating many words at once when it merges this loop with its surroundings: a third of the speed.
#[inline(never)]
fn place_or_reject(words: &[[u8; 2]], places: &mut [u16], values: u16) -> usize {
    let threshold = (NARROW_VALUES % u32::from(values)) as u16;
    let mut rejections = 0_u16;
    for (word, place) in words.iter().zip(places) {
        let product = u32::from(u16::from_le_bytes(*word)).wrapping_mul(u32::from(values));
        let rejected = (product as u16) < threshold;
        *place = if rejected { values } else { (product >> 16) as u16 };
        rejections = rejections.wrapping_add(u16::from(rejected));
    }
    usize::from(rejections)
}

fn increment(lanes: &mut [Box<[u32; NARROW_VALUES as usize]>; LANES], places: &[u16]) {
    let (groups, rest) = places.as_chunks::<LANES>();
    let [first, second, third, fourth] = lanes;
    for &[a, b, c, d] in groups {
        bump(first, a);
        bump(second, b);
        bump(third, c);
        bump(fourth, d);
    }
    for &place in rest {
        bump(first, place);
    }
}

/// Wraps only on paper: [`Worker::draw`] flushes first, and the bin of rejections is never read.
#[inline]
fn bump(bins: &mut [u32; NARROW_VALUES as usize], place: u16) {
    let bin = &mut bins[usize::from(place)];
    *bin = bin.wrapping_add(1);
}

/// Bins of more than 2^16 values, drawn from words of 32 bits.
struct Wide {
    bins: Vec<u32>,
    words: Vec<[u8; 4]>,
}

impl Wide {
    fn new(values: u32) -> Self {
        Self { bins: vec![0; values as usize], words: vec![[0; 4]; BATCH] }
    }

    fn draw(&mut self, stream: &mut ChaCha8Rng, mut draws: usize) {
        let values = self.bins.len() as u64;
        let threshold = (1 << 32) % values;
        let mut at = BATCH;
        while draws > 0 {
            if at == BATCH {
                stream.fill_bytes(self.words.as_flattened_mut());
                at = 0;
            }
            let taken = draws.min(BATCH - at);
            for word in &self.words[at..at + taken] {
                let product = u64::from(u32::from_le_bytes(*word)) * values;
                if (product & u64::from(u32::MAX)) >= threshold {
                    let bin = &mut self.bins[(product >> 32) as usize];
                    *bin = bin.wrapping_add(1);
                    draws -= 1;
                }
            }
            at += taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four thousand million draws over one value overflow its bin: the bins must be emptied in time, and what was
    /// emptied must be counted once.
    #[test]
    fn bins_are_emptied_before_they_can_overflow() {
        for values in [1, NARROW_VALUES + 1] {
            let totals = Mutex::new(vec![0; values as usize]);
            let mut worker = Worker::new(values);
            let mut stream = Keystream::new(1, Purpose::Draw).stream(0);
            worker.draw(&mut stream, 1_000, &totals);
            assert_eq!(totals.lock().iter().sum::<u64>(), 0, "nothing to empty yet");
            worker.held = u64::from(u32::MAX) - 999;
            worker.draw(&mut stream, 1_000, &totals);
            assert_eq!((totals.lock().iter().sum::<u64>(), worker.held), (1_000, 1_000));
            worker.flush(&totals);
            worker.flush(&totals);
            assert_eq!(totals.lock().iter().sum::<u64>(), 2_000);
        }
    }

    /// Bins of 2^24 values for each of a hundred threads would be more memory than the answer is worth.
    #[test]
    fn wide_bins_stay_within_their_memory() {
        assert_eq!(workers(1 << 24, 100, 1_000).len(), 16);
        assert_eq!(workers(1_000, 100, 3).len(), 3);
        assert_eq!(workers(1_000, 2, u64::MAX).len(), 2);
        assert_eq!(workers(1_000, 2, 0).len(), 0);
    }
}
