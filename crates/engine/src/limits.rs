//! What a task template asks of the machine: limits that are kept, and wishes that cannot be. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Docker's least (`swarmkit/manager/controlapi/service.go` `validateResources`).
const LEAST_MEMORY_BYTES: u64 = 4 << 20;
const LEAST_NANO_CPUS: u64 = 1_000_000;

/// Names that `ulimits:` may have, as in Docker.
pub(crate) const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What the kernel is told about a task. Zero is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub nano_cpus: u64,
    pub memory_bytes: u64,
    pub pids: u64,
    pub ulimits: Vec<Ulimit>,
    pub oom_score_adj: Option<i32>,
    /// Capabilities that are taken from root's; `ALL`, or names without `CAP_`.
    pub drops: Vec<String>,
    /// Those that `ALL` leaves.
    pub keeps: Vec<String>,
    pub no_new_privileges: bool,
}

/// Below zero is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

impl Limits {
    /// Reads them from a task template; what is wrong with them, for people.
    pub(crate) fn of(template: &Value) -> Result<Self, String> {
        let limits = &template["Resources"]["Limits"];
        let container = &template["ContainerSpec"];
        let amount = |key: &str| match limits[key].as_i64() {
            Some(number) if number < 0 => Err(format!("invalid {key} limit {number}: below zero")),
            number => Ok(number.unwrap_or(0).unsigned_abs()),
        };
        // Docker's word for no limit of processes is -1 as well.
        let pids = limits["Pids"].as_i64().and_then(|pids| u64::try_from(pids).ok()).unwrap_or(0);
        let ulimits = container["Ulimits"].as_array().into_iter().flatten().map(ulimit);
        let found = Self {
            nano_cpus: amount("NanoCPUs")?,
            memory_bytes: amount("MemoryBytes")?,
            pids,
            ulimits: ulimits.collect::<Result<_, _>>()?,
            oom_score_adj: oom_score_adj(container)?,
            drops: capabilities(&container["CapabilityDrop"])?,
            keeps: capabilities(&container["CapabilityAdd"])?,
            no_new_privileges: container["Privileges"]["NoNewPrivileges"] == true,
        };
        found.check().map(|()| found)
    }

    fn check(&self) -> Result<(), String> {
        if self.nano_cpus != 0 && self.nano_cpus < LEAST_NANO_CPUS {
            let cpus = self.nano_cpus as f64 / 1e9;
            return Err(format!("invalid cpu value {cpus}: Must be at least 0.001"));
        }
        if self.memory_bytes != 0 && self.memory_bytes < LEAST_MEMORY_BYTES {
            let memory = self.memory_bytes;
            return Err(format!("invalid memory value {memory}: Must be at least 4MiB"));
        }
        Ok(())
    }

    /// Without what only some may ask for; its owner was warned.
    pub(crate) fn allowed(mut self, may_raise: bool) -> Self {
        self.oom_score_adj = self.oom_score_adj.filter(|score| may_raise || *score >= 0);
        self
    }

    /// Something that only a control group can keep.
    pub(crate) fn needs_group(&self) -> bool {
        self.nano_cpus != 0 || self.memory_bytes != 0 || self.pids != 0
    }
}

fn ulimit(wire: &Value) -> Result<Ulimit, String> {
    let name = wire["Name"].as_str().unwrap_or("").to_ascii_lowercase();
    if !ULIMITS.contains(&name.as_str()) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let hard = wire["Hard"].as_i64().unwrap_or(0);
    let soft = wire["Soft"].as_i64().unwrap_or(hard);
    let height = |number: i64| if number < 0 { i64::MAX } else { number };
    if height(soft) > height(hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {name}: {soft} > {hard}"
        ));
    }
    Ok(Ulimit { name, soft, hard })
}

fn oom_score_adj(container: &Value) -> Result<Option<i32>, String> {
    match container["OomScoreAdj"].as_i64() {
        None | Some(0) => Ok(None),
        Some(score) => match i32::try_from(score).ok().filter(|s| (-1000..=1000).contains(s)) {
            Some(score) => Ok(Some(score)),
            None => Err(format!("invalid value {score}, range for oom score adj is [-1000, 1000]")),
        },
    }
}

fn capabilities(list: &Value) -> Result<Vec<String>, String> {
    let names = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    let plain = names.map(|name| {
        let upper = name.trim().to_ascii_uppercase();
        upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
    });
    let is_known =
        |name: &String| name == "ALL" || rustix::thread::CapabilitySet::from_name(name).is_some();
    plain
        .map(|name| match is_known(&name) {
            true => Ok(name),
            false => Err(format!("invalid capability: {name:?}")),
        })
        .collect()
}

/// This process may give its children more than it has itself, and take back what it gave up. Root
/// of a container often may not.
pub(crate) fn may_raise() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE))
}

/// What a template asks for and does not get, as Docker's clients show it.
pub(crate) fn warnings(template: &Value, may_raise: bool) -> Vec<String> {
    let container = &template["ContainerSpec"];
    let mut said = Vec::new();
    let mut say = |text: &str| said.push(text.to_owned());
    if container["ReadOnly"] == true {
        say("ReadOnly has no effect: tasks of the embedded engine are processes of the machine");
    }
    if container["Sysctls"].as_object().is_some_and(|map| !map.is_empty()) {
        say("Sysctls are not set: they would be the whole machine's");
    }
    if container["OomScoreAdj"].as_i64().is_some_and(|score| score < 0) && !may_raise {
        say("OomScoreAdj below zero has no effect: the engine lacks CAP_SYS_RESOURCE");
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_read_from_where_docker_puts_them() {
        let template = json!({
            "Resources": { "Limits": { "NanoCPUs": 500_000_000, "MemoryBytes": 67_108_864, "Pids": 9 } },
            "ContainerSpec": {
                "Ulimits": [{ "Name": "nofile", "Soft": 100, "Hard": 200 }], "OomScoreAdj": 5,
                "CapabilityDrop": ["CAP_NET_RAW", "chown"],
                "Privileges": { "NoNewPrivileges": true },
            },
        });
        let limits = Limits::of(&template).expect("valid");
        assert_eq!(
            (limits.nano_cpus, limits.memory_bytes, limits.pids),
            (500_000_000, 64 << 20, 9)
        );
        assert_eq!(limits.ulimits[0], Ulimit { name: "nofile".to_owned(), soft: 100, hard: 200 });
        assert_eq!(limits.drops, ["NET_RAW", "CHOWN"]);
        assert!(limits.needs_group() && limits.no_new_privileges);
        assert_eq!(Limits::of(&json!({})), Ok(Limits::default()));
        assert!(!Limits::of(&json!({ "Resources": null })).expect("valid").needs_group());
    }

    #[test]
    fn what_is_wrong_with_limits_is_said_in_docker_s_words() {
        let limit = |key: &str, value: i64| {
            Limits::of(&json!({ "Resources": { "Limits": { key: value } } })).expect_err("refused")
        };
        assert_eq!(limit("MemoryBytes", 5), "invalid memory value 5: Must be at least 4MiB");
        assert_eq!(limit("NanoCPUs", 10), "invalid cpu value 0.00000001: Must be at least 0.001");
        assert!(limit("MemoryBytes", -1).contains("below zero"));
        let container =
            |value: Value| Limits::of(&json!({ "ContainerSpec": value })).expect_err("refused");
        let ulimit = container(json!({ "Ulimits": [{ "Name": "files", "Soft": 1, "Hard": 1 }] }));
        assert_eq!(ulimit, "invalid ulimit type: files");
        let ulimit = container(json!({ "Ulimits": [{ "Name": "core", "Soft": -1, "Hard": 1 }] }));
        assert!(ulimit.contains("less than or equal to hard limit"), "{ulimit}");
        assert!(container(json!({ "OomScoreAdj": 2000 })).contains("[-1000, 1000]"));
        assert!(container(json!({ "CapabilityDrop": ["FLY"] })).contains("FLY"));
    }

    #[test]
    fn wishes_that_cannot_be_met_are_told() {
        let template = json!({
            "ContainerSpec": { "ReadOnly": true, "Sysctls": { "a": "1" }, "OomScoreAdj": -5 },
        });
        assert_eq!(warnings(&template, false).len(), 3);
        assert_eq!(warnings(&template, true).len(), 2);
        assert!(warnings(&json!({ "ContainerSpec": { "Init": true } }), false).is_empty());
        let limits = Limits { oom_score_adj: Some(-5), ..Limits::default() };
        assert_eq!(limits.clone().allowed(false).oom_score_adj, None);
        assert_eq!(limits.allowed(true).oom_score_adj, Some(-5));
    }
}
