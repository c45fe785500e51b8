//! The instruction set extensions that are reported.

/// The word of the Linux kernel and the name in the answer, which is that of the Rust target features.
pub const KERNEL_NAMES: &[(&str, &str)] = &[
    ("aes", "aes"),
    ("asimd", "neon"),
    ("asimddp", "dotprod"),
    ("atomics", "lse"),
    ("avx", "avx"),
    ("avx2", "avx2"),
    ("avx512bw", "avx512bw"),
    ("avx512f", "avx512f"),
    ("avx512vl", "avx512vl"),
    ("bmi1", "bmi1"),
    ("bmi2", "bmi2"),
    ("crc32", "crc"),
    ("fma", "fma"),
    ("pclmulqdq", "pclmulqdq"),
    ("popcnt", "popcnt"),
    ("rdrand", "rdrand"),
    ("sha2", "sha2"),
    ("sha_ni", "sha"),
    ("sse2", "sse2"),
    ("sse4_1", "sse4.1"),
    ("sse4_2", "sse4.2"),
    ("ssse3", "ssse3"),
    ("sve", "sve"),
    ("sve2", "sve2"),
    ("vaes", "vaes"),
];

/// The extensions that the standard library finds, for systems without `/proc/cpuinfo`.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub fn detected() -> Vec<&'static str> {
    macro_rules! found {
        ($($name:tt),*) => { [$((std::is_x86_feature_detected!($name), $name)),*] };
    }
    let all = found![
        "aes",
        "avx",
        "avx2",
        "avx512bw",
        "avx512f",
        "avx512vl",
        "bmi1",
        "bmi2",
        "fma",
        "pclmulqdq",
        "popcnt",
        "rdrand",
        "sha",
        "sse2",
        "sse4.1",
        "sse4.2",
        "ssse3",
        "vaes"
    ];
    all.into_iter().filter_map(|(found, name)| found.then_some(name)).collect()
}

/// The extensions that the standard library finds, for systems without `/proc/cpuinfo`.
#[cfg(target_arch = "aarch64")]
pub fn detected() -> Vec<&'static str> {
    macro_rules! found {
        ($($name:tt),*) => { [$((std::arch::is_aarch64_feature_detected!($name), $name)),*] };
    }
    let all = found!["aes", "crc", "dotprod", "lse", "neon", "sha2", "sve", "sve2"];
    all.into_iter().filter_map(|(found, name)| found.then_some(name)).collect()
}

/// Nothing is known about the extensions of other processors.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
pub fn detected() -> Vec<&'static str> {
    Vec::new()
}
