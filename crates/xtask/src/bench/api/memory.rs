//! What an engine needs beside 500 tasks: `keel`'s processes, and dockerd's with its shims.

use std::{fs, os::unix::ffi::OsStrExt, path::Path, time::Duration};

use anyhow::{Result, ensure};
use conformance::engine::Engine;

use super::{super::memory::pss_mib, Both, Metric, peer};

const TASKS: usize = 500;
/// Containers take their time; what runs then is what is measured.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn measure(both: &Both) -> Result<Vec<Metric>> {
    let (ours, our_count) = with_tasks(&both.ours)?;
    let (theirs, their_count) = with_tasks(&both.theirs)?;
    ensure!(our_count == TASKS, "only {our_count} tasks run on the embedded engine");
    ensure!(their_count > 10, "only {their_count} tasks run on the Docker daemon");
    let mut metrics = vec![
        Metric::plain(&format!("pss_keel_{our_count}_tasks"), ours.1, "MiB"),
        Metric::plain(&format!("pss_dockerd_{their_count}_tasks"), theirs.1, "MiB"),
        Metric::plain("pss_keel_per_task", per_task(ours, our_count), "MiB"),
        Metric::plain("pss_dockerd_per_task", per_task(theirs, their_count), "MiB"),
    ];
    if their_count < TASKS {
        let estimate = theirs.0 + per_task(theirs, their_count) * TASKS as f64;
        let mut metric = Metric::plain("pss_dockerd_500_tasks_estimated", estimate, "MiB");
        let patience = PATIENCE.as_secs();
        metric.compared_with = Some(format!("{their_count} came within {patience} s"));
        metrics.push(metric);
    }
    Ok(metrics)
}

fn per_task((without, with): (f64, f64), count: usize) -> f64 {
    (with - without) / count as f64
}

/// MiB without and with the tasks, and how many run.
fn with_tasks(engine: &Engine) -> Result<((f64, f64), usize)> {
    let without = in_all(engine)?;
    peer::create(engine, "many", TASKS as u64, &[])?;
    let count = peer::wait(engine, "many", "running", TASKS, PATIENCE)?;
    let with = in_all(engine)?;
    peer::remove(engine, "many")?;
    Ok(((without, with), count))
}

/// PSS of every process of the engine's own; they all name its folder.
fn in_all(engine: &Engine) -> Result<f64> {
    const OURS: [&str; 5] =
        ["keel", "dockerd", "containerd", "containerd-shim-runc-v2", "containerd-shim"];
    let folder = engine.folder().as_os_str().as_bytes();
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        let Ok(exe) = fs::read_link(path.join("exe")) else { continue };
        let name = exe.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if OURS.contains(&name) && is_named(&path, folder) {
            sum += pss_mib(&path.join("smaps_rollup")).unwrap_or(0.0);
        }
    }
    ensure!(sum > 0.0, "no process of {} was found", engine.kind.name());
    Ok(sum)
}

/// Its arguments, its environment or its working folder name the folder.
fn is_named(process: &Path, folder: &[u8]) -> bool {
    let cwd = fs::read_link(process.join("cwd")).unwrap_or_default();
    let texts = ["cmdline", "environ"].map(|name| fs::read(process.join(name)).unwrap_or_default());
    let has = |bytes: &[u8]| bytes.windows(folder.len()).any(|window| window == folder);
    texts.iter().any(|text| has(text)) || has(cwd.as_os_str().as_bytes())
}
