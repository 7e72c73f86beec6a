//! How much memory this process may use, as the system tells: its control groups' limits, or what
//! the machine has.

use std::fs;
use std::path::{Path, PathBuf};

/// What a process of ours takes beside its store: code, threads, logs and buffers.
const BESIDE_STORE: u64 = 16 << 20;
/// The part of the rest that records may count to, in eighths: in memory a small record takes more
/// than twice the bytes that it counts for.
const STORE_EIGHTHS: u64 = 3;
/// The least limit of a store that follows from so little memory.
const STORE_LEN_MIN: u64 = 1 << 20;

/// Bytes that this process may use, where the system tells.
#[must_use]
pub fn limit() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let told = files_of(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    told.filter_map(|text| text.trim().parse().ok()).chain(meminfo).min()
}

/// The bytes that the records of a store may count to in so much memory.
#[must_use]
pub fn store_len_max(memory: u64) -> u64 {
    (memory.saturating_sub(BESIDE_STORE) / 8 * STORE_EIGHTHS).max(STORE_LEN_MIN)
}

/// `MemTotal:       12345 kB`
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The files with the limits of these control groups and of all above them, of either version. In a
/// container the path may lead outside of what is seen: then the top of it is the container's.
fn files_of(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (top, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|group| Path::new(top).join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_both_versions_and_all_above_them_are_asked() {
        let paths =
            |groups| files_of(groups).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths("0::/a/b\n"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(paths("0::/"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            paths("4:cpu:/x\n3:memory,hugetlb:/x\n"),
            [
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert!(files_of("nothing\n").is_empty());
    }

    #[test]
    fn a_store_gets_its_part_of_what_there_is() {
        assert_eq!(store_len_max(0), STORE_LEN_MIN);
        assert_eq!(store_len_max(528 << 20), 192 << 20);
        assert!(store_len_max(40 << 20) < 10 << 20);
        assert_eq!(store_len_max(u64::MAX), (u64::MAX - BESIDE_STORE) / 8 * 3);
        assert_eq!(total_of("MemFree: 1 kB\nMemTotal:  12 kB\n"), Some(12 << 10));
        assert_eq!(total_of("MemTotal: many kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        assert!(limit().is_some_and(|bytes| bytes > 1 << 20));
    }
}
