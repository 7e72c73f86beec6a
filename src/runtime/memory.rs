//! How much memory this process may use, as the system tells: its control groups' limits, or what
//! the machine has. Above `memory.high` a group is not ended but slowed down until it stands, so
//! that is a limit, too.

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
    limit_by(|path| fs::read_to_string(path).ok())
}

/// The same, of what these files hold.
fn limit_by(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let meminfo = read(Path::new("/proc/meminfo")).and_then(|text| total_of(&text));
    let machine = meminfo.or_else(total);
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let told = files_of(&groups).into_iter().filter_map(|file| read(&file));
    told.filter_map(|text| text.trim().parse().ok()).chain(machine).min()
}

/// What the machine has, asked without a file: a service may be kept from seeing `/proc/meminfo`.
fn total() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return {
        let told = rustix::system::sysinfo();
        let total = u128::from(told.totalram) * u128::from(told.mem_unit);
        u64::try_from(total).ok().filter(|total| *total > 0)
    };
    #[cfg(not(target_os = "linux"))]
    return None;
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
        let (top, names) = if controllers.is_empty() {
            ("/sys/fs/cgroup", &["memory.max", "memory.high"][..])
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"][..])
        } else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        for group in path.ancestors() {
            files.extend(names.iter().map(|file| Path::new(top).join(group).join(file)));
        }
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
                "/sys/fs/cgroup/a/b/memory.high",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/a/memory.high",
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/memory.high"
            ]
        );
        assert_eq!(paths("0::/").len(), 2);
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

    /// What a service of systemd is told, with `MemoryHigh` and `MemoryMax`.
    fn told(path: &Path) -> Option<String> {
        let text = match path.to_str()? {
            "/proc/self/cgroup" => "0::/system.slice/gossipykv.service\n",
            "/proc/meminfo" => "MemTotal:  1000000 kB\n",
            "/sys/fs/cgroup/system.slice/gossipykv.service/memory.max" => "900000000\n",
            "/sys/fs/cgroup/system.slice/gossipykv.service/memory.high" => "800000000\n",
            "/sys/fs/cgroup/system.slice/memory.max" => "max\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn the_smallest_limit_counts_and_where_groups_slow_down_is_one() {
        assert_eq!(limit_by(told), Some(800_000_000));
        let only_max = |path: &Path| told(path).filter(|_| !path.ends_with("memory.high"));
        assert_eq!(limit_by(only_max), Some(900_000_000));
        let no_group = |path: &Path| told(path).filter(|_| path.starts_with("/proc"));
        assert_eq!(limit_by(no_group), Some(1_024_000_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_machine_tells_what_it_has_where_its_files_are_hidden() {
        let total = limit_by(|_| None).expect("sysinfo(2) needs no file");
        let told = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
        // A container may be told that it has less.
        assert!(total > 1 << 20 && told.is_none_or(|told| total >= told), "{total} {told:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        assert!(limit().is_some_and(|bytes| bytes > 1 << 20));
    }
}
