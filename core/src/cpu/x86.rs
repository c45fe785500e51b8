//! What an x86 processor tells about itself.

use raw_cpuid::{CacheType, CpuId};

use crate::cpu::{CacheKind, Caches, text};

/// More caches than any processor lists; a hypervisor that never ends the list must not hold the caller.
const MOST_CACHES: usize = 16;

/// Vendor and model.
pub fn names() -> (Option<String>, Option<String>) {
    let cpuid = CpuId::new();
    let vendor = cpuid.get_vendor_info().and_then(|vendor| text(vendor.as_str()));
    let model = cpuid.get_processor_brand_string().and_then(|brand| text(brand.as_str().trim_end_matches('\0')));
    (vendor, model)
}

/// The caches of the core that runs this call.
pub fn caches() -> Option<Caches> {
    let mut caches = Caches::default();
    for cache in CpuId::new().get_cache_parameters()?.take(MOST_CACHES) {
        let kind = match cache.cache_type() {
            CacheType::Data => CacheKind::Data,
            CacheType::Instruction => CacheKind::Instruction,
            CacheType::Unified => CacheKind::Unified,
            CacheType::Null | CacheType::Reserved => continue,
        };
        let bytes =
            [cache.associativity(), cache.physical_line_partitions(), cache.coherency_line_size(), cache.sets()]
                .into_iter()
                .fold(1, |product: u64, factor| product.saturating_mul(factor as u64));
        caches.note(u32::from(cache.level()), kind, bytes);
    }
    caches.known()
}
