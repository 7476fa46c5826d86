//! Limits in the API: refused where they cannot be kept, shown where they are.

use std::path::Path;

use dockerapi::ApiError;
use serde_json::{Value, json};

use super::Api;
use crate::{
    cgroup::{Cgroups, Throttling},
    limits::{Limits, may_raise, warnings},
    supervisor::{Ended, Job, read_json},
};

impl Api {
    /// What is wrong with a task template's limits, or what its owner should know.
    pub(super) fn check_limits(&self, template: &Value) -> Result<Vec<String>, ApiError> {
        let limits = Limits::of(template).map_err(ApiError::invalid)?;
        if let Some(refusal) = self.cgroups.refusal(&limits) {
            return Err(ApiError::invalid(refusal));
        }
        let mut said = warnings(template, may_raise());
        said.extend(self.cgroups.lacking(&limits));
        Ok(said)
    }
}

/// A container's limits, and whether the kernel killed it for its memory.
pub(super) fn show(folder: &Path, shown: &mut Value) {
    if let Some(job) = read_json::<Job>(&folder.join("task.json")) {
        shown["HostConfig"]["Memory"] = json!(job.limits.memory_bytes);
        shown["HostConfig"]["NanoCpus"] = json!(job.limits.nano_cpus);
        let pids = (job.limits.pids != 0).then_some(job.limits.pids);
        shown["HostConfig"]["PidsLimit"] = json!(pids);
    }
    if let Some(ended) = read_json::<Ended>(&folder.join("exit.json")) {
        shown["State"]["OOMKilled"] = json!(ended.oom_killed);
    }
}

pub(super) fn throttling(known: &Throttling) -> Value {
    json!({
        "periods": known.periods, "throttled_periods": known.throttled_periods,
        "throttled_time": u64::try_from(known.throttled.as_nanos()).unwrap_or(u64::MAX),
    })
}

/// What the machine can keep, as `docker info` shows it.
pub(super) fn show_machine(cgroups: &Cgroups, info: &mut Value) {
    let kept = cgroups.kept();
    let has = |name: &str| kept.contains(&name);
    info["MemoryLimit"] = json!(has("memory"));
    info["CpuCfsPeriod"] = json!(has("cpus"));
    info["CpuCfsQuota"] = json!(has("cpus"));
    info["PidsLimit"] = json!(has("pids"));
    info["CgroupDriver"] = json!("cgroupfs");
    info["CgroupVersion"] = json!(cgroups.version());
    let missing = cgroups.missing();
    let said = missing.map(|missing| format!("WARNING: limits are not kept: {missing}"));
    info["Warnings"] = json!(said.into_iter().collect::<Vec<_>>());
}
