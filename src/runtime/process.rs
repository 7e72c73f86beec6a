//! What the system says of this process. Linux tells it in `/proc`; elsewhere nothing is told.

use crate::node::command::Sample;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// Ticks a second in which Linux counts processor time for programs, whatever its own are.
const TICKS_A_SECOND: f64 = 100.0;

/// How many files and sockets this process may have open, once the soft limit is raised to the hard
/// one.
pub(super) fn open_files_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let max =
        if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX))
}

/// Bytes of memory in use.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    resident_of(&fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS:     12345 kB`
fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Processor time and threads. The name before them may hold anything, spaces and brackets too.
fn used_of(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<f64>().ok();
    // utime, stime and num_threads, the 14th, 15th and 20th of all.
    Some(((number(11)? + number(12)?) / TICKS_A_SECOND, number(17)?))
}

/// The process in numbers.
pub(super) fn samples() -> Vec<Sample> {
    let used = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| used_of(&stat));
    let files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
    let told = [
        (
            "process_resident_bytes",
            "Memory in use by this process.",
            resident_bytes().map(|bytes| bytes as f64),
        ),
        (
            "process_cpu_seconds_total",
            "Processor time used by this process.",
            used.map(|(seconds, _)| seconds),
        ),
        ("process_threads", "Threads of this process.", used.map(|(_, threads)| threads)),
        ("process_open_files", "Files and sockets that this process has open.", files),
    ];
    let sample = |(name, help, value): (_, _, Option<f64>)| {
        Some(Sample { name, help, labels: Vec::new(), value: value? })
    };
    told.into_iter().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_field() {
        let rest = "R 1 2 3 4 -1 6 7 8 9 10 250 50 0 0 20 0 12 0 99 1000 5";
        assert_eq!(used_of(&format!("7 (a ) b 8) {rest}")), Some((3.0, 12.0)));
        assert_eq!(used_of("7 (short) R 1"), None);
        assert_eq!(used_of(""), None);
    }

    #[test]
    fn memory_is_told_in_kib() {
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t   12 kB\nThreads:\t1\n"), Some(12 << 10));
        assert_eq!(resident_of("Name:\tx\n"), None);
        assert_eq!(resident_of("VmRSS:\tmany kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_told() {
        let before = resident_bytes().expect("a figure");
        let more = vec![1_u8; 64 << 20];
        assert!(resident_bytes().expect("a figure") > before + (48 << 20), "{}", more.len());
        let samples = samples();
        assert_eq!(samples.len(), 4);
        assert!(samples.iter().all(|sample| sample.value > 0.0 || sample.name.contains("cpu")));
    }
}
