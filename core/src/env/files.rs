//! Files, as the log sees them: real ones, and simulated ones that crash.
