//! Programs to start from: `cargo run --example first_steps`.
