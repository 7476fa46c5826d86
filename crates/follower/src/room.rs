//! What is free on this machine: memory, and the disk that Docker's files are on.

use std::path::Path;

use serde_json::{Value, json};

/// Bytes; null where the machine does not tell.
pub(crate) fn of_this_machine(docker_root: &Path) -> Value {
    let disk = rustix::fs::statvfs(docker_root).ok();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    json!({
        "memory_free_bytes": available(&memory),
        "disk_free_bytes": disk.as_ref().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        "disk_bytes": disk.as_ref().map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
    })
}

/// `MemAvailable` of `/proc/meminfo`, which counts in KiB.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24689764 kB\nMemFree:        1 kB\nMemAvailable:   2 kB\n";
        assert_eq!(available(text), Some(2048));
        assert_eq!(available("MemAvailable: many"), None);
    }
}
