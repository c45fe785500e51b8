//! Which file systems lie on another machine.

use std::io;
use std::path::Path;

/// The kind of network file system that holds `dir`; none for those of this machine.
#[cfg(target_os = "linux")]
pub fn kind_of(dir: &Path) -> io::Result<Option<&'static str>> {
    // Its type has another width and sign on each platform; the numbers have 32 bits everywhere.
    let magic = i128::from(rustix::fs::statfs(dir)?.f_type) & 0xffff_ffff;
    Ok(kind(magic))
}

/// Elsewhere nobody knows.
#[cfg(not(target_os = "linux"))]
pub fn kind_of(_dir: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// The numbers of `linux/magic.h`. FUSE is not among them: most of what it serves is a disk of this machine, shared with a
/// container say.
#[cfg(any(target_os = "linux", test))]
fn kind(magic: i128) -> Option<&'static str> {
    match magic {
        0x6969 => Some("nfs"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("smb"),
        // That of OpenAFS, and that of the kernel.
        0x5346_414f | 0x6b41_4653 => Some("afs"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_this_machine_are_told_from_others() {
        let network = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x5346_414f, 0x6b41_4653].map(kind);
        assert_eq!(network, ["nfs", "smb", "smb", "smb", "afs", "afs"].map(Some));
        // ext4, btrfs, tmpfs, xfs, overlay, FUSE.
        let here = [0xef53, 0x9123_683e, 0x0102_1994, 0x5846_5342, 0x794c_7630, 0x6573_5546].map(kind);
        assert_eq!(here, [None; 6]);
        let scratch = tempfile::tempdir().expect("a directory for tests");
        assert_eq!(kind_of(scratch.path()).expect("it is there"), None);
        #[cfg(target_os = "linux")]
        assert!(kind_of(&scratch.path().join("gone")).is_err());
    }
}
