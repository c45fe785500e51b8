//! The parallel histogram of random numbers.
