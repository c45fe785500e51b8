//! Texts as an x86 and an arm64 kernel write them, and this machine.

use super::linux::{parse_caches, parse_features, parse_size};
use super::*;

const X86_CPUINFO: &str = "processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 167
model name\t: Intel(R) Xeon(R) Processor
cpu MHz\t\t: 2599.998
cache size\t: 491520 KB
flags\t\t: fpu tsc sse sse2 pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 popcnt aes avx avx2 avx512f sha_ni vaes avx512_fp16
bugs\t\t: spectre_v1 spectre_v2

processor\t: 1
flags\t\t: fpu
";

const ARM_CPUINFO: &str = "processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
";

fn entries(triples: &[[&str; 3]]) -> Vec<[String; 3]> {
    triples.iter().map(|triple| triple.map(|part| format!("{part}\n"))).collect()
}

/// The two architectures name the line and the extensions differently; the second processor's line must not count.
#[test]
fn extensions_have_one_name_whatever_the_kernel_calls_them() {
    let x86 =
        ["aes", "avx", "avx2", "avx512f", "fma", "pclmulqdq", "popcnt", "sha", "sse2", "sse4.1", "sse4.2", "ssse3"];
    assert_eq!(parse_features(X86_CPUINFO).expect("the line is there"), [&x86[..], &["vaes"]].concat());
    assert_eq!(
        parse_features(ARM_CPUINFO).expect("the line is there"),
        ["aes", "crc", "dotprod", "lse", "neon", "sha2"]
    );
}

#[test]
fn caches_are_read_in_bytes_on_both_machines() {
    let x86 =
        [["1", "Data", "48K"], ["1", "Instruction", "64K"], ["2", "Unified", "2048K"], ["3", "Unified", "491520K"]];
    let expected = Caches { l1d: Some(49_152), l1i: Some(65_536), l2: Some(2 << 20), l3: Some(480 << 20) };
    assert_eq!(parse_caches(entries(&x86)), Some(expected));
    let arm = [["1", "Data", "64K"], ["1", "Instruction", "64K"], ["2", "Unified", "1024K"]];
    let expected = Caches { l1d: Some(65_536), l1i: Some(65_536), l2: Some(1 << 20), l3: None };
    assert_eq!(parse_caches(entries(&arm)), Some(expected));
}

/// Containers and emulators give empty, odd and absurd texts; each is unknown, none a panic or a zero.
#[test]
fn what_does_not_read_is_unknown() {
    for text in ["", " ", "K", "12Q", "-1K", "1.5M", "99999999999999999999K", "18446744073709551615G", "\u{b5}K"] {
        assert_eq!(parse_size(text), None, "text={text:?}");
    }
    assert_eq!(parse_size("512"), Some(512));
    let odd = [["1", "Data", "0K"], ["x", "Data", "8K"], ["4", "Unified", "8K"], ["2", "Trace", "8K"], ["", "", ""]];
    assert_eq!(parse_caches(entries(&odd)), None);
    assert_eq!(parse_features(""), None);
    assert_eq!(parse_features("processor : 0\nisa : rv64imafdc\n"), None);
    assert_eq!(parse_features("flags :\n"), Some(vec![]));
}

/// Two sources that know nothing of each other must agree on this machine, else one of the lists has a wrong name.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[test]
fn kernel_and_standard_library_agree_on_the_extensions() {
    assert_eq!(linux::features(), Some(features::detected()));
}

/// The kernel reads the same registers; a misread bit field would show as another size.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn kernel_and_processor_agree_on_the_caches() {
    if let (Some(kernel), Some(processor)) = (linux::caches(), x86::caches()) {
        assert_eq!(kernel, processor);
    }
    assert!(x86::names().0.is_some(), "every x86 processor names its vendor");
}

#[test]
fn this_machine_is_described_without_contradiction() {
    let info = cpu_info();
    let json = serde_json::to_value(&info).expect("a description serialises");
    println!("{json:#}");
    assert!(info.parallelism >= 1);
    if let (Some(logical), Some(physical)) = (info.logical_cpus, info.physical_cores) {
        assert!(physical <= logical);
    }
    if let (Some(total), Some(available)) = (info.memory.total, info.memory.available) {
        assert!(available <= total);
    }
    for field in ["vendor", "model", "logical_cpus", "physical_cores", "frequency_mhz", "caches", "features"] {
        assert!(json.get(field).is_some_and(|value| value != "" && value != 0), "field={field}");
    }
}
