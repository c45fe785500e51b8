//! What the Linux kernel tells in its text files; nothing on other systems, which do not have them.

use crate::cpu::features::KERNEL_NAMES;
use crate::cpu::{CacheKind, Caches};
use crate::env::host::host_text;

/// The caches of the first core, from sysfs.
pub fn caches() -> Option<Caches> {
    let entries = (0..).map_while(|index| {
        let part = |name| host_text(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"));
        Some([part("level")?, part("type")?, part("size")?])
    });
    parse_caches(entries)
}

/// The extensions of the first core, from procfs.
pub fn features() -> Option<Vec<&'static str>> {
    parse_features(&host_text("/proc/cpuinfo")?)
}

/// Caches from triples of level, type and size as sysfs writes them; an entry that does not read is left out.
pub fn parse_caches(entries: impl IntoIterator<Item = [String; 3]>) -> Option<Caches> {
    let mut caches = Caches::default();
    for [level, kind, size] in entries {
        let kind = match kind.trim() {
            "Data" => CacheKind::Data,
            "Instruction" => CacheKind::Instruction,
            "Unified" => CacheKind::Unified,
            _ => continue,
        };
        if let (Ok(level), Some(bytes)) = (level.trim().parse(), parse_size(&size)) {
            caches.note(level, kind, bytes);
        }
    }
    caches.known()
}

/// A size such as `48K`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, ""),
    };
    let factor = match unit {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The listed extensions in a text of `/proc/cpuinfo`; x86 calls the line `flags`, arm64 `Features`.
pub fn parse_features(cpuinfo: &str) -> Option<Vec<&'static str>> {
    let line = cpuinfo.lines().find_map(|line| {
        let (name, words) = line.split_once(':')?;
        matches!(name.trim(), "flags" | "Features").then_some(words)
    })?;
    let mut found: Vec<&str> = line
        .split_whitespace()
        .filter_map(|word| KERNEL_NAMES.iter().find(|(kernel, _)| *kernel == word).map(|(_, name)| *name))
        .collect();
    found.sort_unstable();
    found.dedup();
    Some(found)
}
