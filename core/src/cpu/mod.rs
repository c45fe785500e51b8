//! CPU and host information.
//!
//! [`cpu_info`] describes the machine under this process. What cannot be found out is `None`, never a guess.

mod features;
mod linux;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod x86;

use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The processor, memory and system under this process.
///
/// The host's name is left out: answers like this one end up in bug reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuInfo {
    /// The instruction set this program was built for, such as `x86_64` or `aarch64`.
    pub architecture: &'static str,
    /// Who made the processor, as it calls itself: `GenuineIntel`, `AuthenticAMD`, `ARM`.
    pub vendor: Option<String>,
    /// The name of the model, or of the core design where the processor names no model.
    pub model: Option<String>,
    /// Hardware threads of the machine.
    pub logical_cpus: Option<usize>,
    /// Cores of the machine, each with one or more hardware threads.
    pub physical_cores: Option<usize>,
    /// How many threads this process may keep busy: the affinity mask and the cgroup quota count.
    pub parallelism: usize,
    /// Clock of the first hardware thread in MHz, as last seen by the system.
    pub frequency_mhz: Option<u64>,
    /// Cache sizes seen by the first core.
    pub caches: Caches,
    /// Instruction set extensions that programs may use, from a fixed list and in alphabetical order.
    pub features: Option<Vec<&'static str>>,
    /// Main memory.
    pub memory: Memory,
    /// The operating system.
    pub os: OperatingSystem,
}

/// Sizes of one cache of each level, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Caches {
    /// First level, data.
    pub l1d: Option<u64>,
    /// First level, instructions.
    pub l1i: Option<u64>,
    /// Second level.
    pub l2: Option<u64>,
    /// Third level, shared by several cores.
    pub l3: Option<u64>,
}

/// Main memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Memory of the machine.
    pub total: Option<u64>,
    /// Memory that programs can still get without swapping.
    pub available: Option<u64>,
    /// What the cgroup allows, where that is less than the machine has.
    pub limit: Option<u64>,
}

/// Name and version of the operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperatingSystem {
    /// The name of the system or distribution.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The version of the kernel.
    pub kernel: Option<String>,
}

/// Describes the machine under this process as it is now; takes a few milliseconds.
///
/// # Examples
/// ```
/// let info = kappa_core::cpu::cpu_info();
/// assert!(info.parallelism >= 1);
/// ```
pub fn cpu_info() -> CpuInfo {
    let wanted = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_frequency())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(wanted).ok();
    let first = system.as_ref().and_then(|system| system.cpus().first());
    let (vendor, model) = processor_names();
    CpuInfo {
        architecture: std::env::consts::ARCH,
        vendor: vendor.or_else(|| first.and_then(|cpu| text(cpu.vendor_id()))),
        model: model.or_else(|| first.and_then(|cpu| text(cpu.brand()))),
        logical_cpus: system.as_ref().and_then(|system| positive(system.cpus().len())),
        physical_cores: System::physical_core_count().ok().and_then(positive),
        parallelism: crate::random::parallelism(),
        frequency_mhz: first.and_then(|cpu| positive(cpu.frequency())),
        caches: linux::caches().or_else(processor_caches).unwrap_or_default(),
        features: linux::features().or_else(|| Some(features::detected()).filter(|found| !found.is_empty())),
        memory: system.as_ref().map(memory).unwrap_or_default(),
        os: OperatingSystem {
            name: System::name().ok().as_deref().and_then(text),
            version: System::os_version().ok().as_deref().and_then(text),
            kernel: System::kernel_version().ok().as_deref().and_then(text),
        },
    }
}

/// Vendor and model as the processor itself tells them.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn processor_names() -> (Option<String>, Option<String>) {
    x86::names()
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn processor_names() -> (Option<String>, Option<String>) {
    (None, None)
}

/// Caches as the processor itself tells them.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn processor_caches() -> Option<Caches> {
    x86::caches()
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn processor_caches() -> Option<Caches> {
    None
}

fn memory(system: &System) -> Memory {
    let total = positive(system.total_memory());
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    Memory {
        total,
        available: positive(system.available_memory()),
        limit: limit.filter(|limit| total.is_some_and(|total| (1..total).contains(limit))),
    }
}

/// Zero is how the sources say that they do not know.
fn positive<N: Default + PartialOrd>(number: N) -> Option<N> {
    (number > N::default()).then_some(number)
}

/// Blank is how the sources say that they do not know.
fn text(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

impl Caches {
    /// Notes a cache; of several with one level and kind the first counts, because it is the one next to the core.
    fn note(&mut self, level: u32, kind: CacheKind, bytes: u64) {
        let slot = match (level, kind) {
            (1, CacheKind::Instruction) => &mut self.l1i,
            (1, CacheKind::Data | CacheKind::Unified) => &mut self.l1d,
            (2, CacheKind::Data | CacheKind::Unified) => &mut self.l2,
            (3, CacheKind::Data | CacheKind::Unified) => &mut self.l3,
            _ => return,
        };
        *slot = slot.or(positive(bytes));
    }

    /// These caches, unless none of them is known.
    fn known(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheKind {
    Data,
    Instruction,
    Unified,
}
