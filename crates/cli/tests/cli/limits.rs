//! Limits of tasks: kept by the kernel where it lets us, told where it kills, gone afterwards.

use std::{fs, path::Path};

use serde_json::Value;

use super::{await_state, site::Site};

const STACK: &str = r#"
services:
  work:
    image: work:${VERSION}
    ulimits: {nofile: {soft: 123, hard: 456}}
    cap_drop: [NET_RAW]
    oom_score_adj: 77
    deploy:
      restart_policy: {condition: none}
      resources: {limits: {cpus: "0.25", memory: 32M, pids: 20}}
    x-evenkeel:
      artifact:
        files: {/run.sh: run.sh}
        entrypoint: ["/bin/sh", "/run.sh"]
"#;

/// An engine whose machine keeps all limits; none, and said, where it does not.
fn start(script: &str) -> Option<Site> {
    let site = Site::start();
    let info = site.json("/info");
    let keeps = |key: &str| info[key] == true;
    if !(keeps("MemoryLimit") && keeps("CpuCfsQuota") && keeps("PidsLimit")) {
        assert!(info["Warnings"].to_string().contains("limits are not kept"), "{info}");
        eprintln!("this machine keeps no limits for this user: {}", info["Warnings"]);
        return None;
    }
    fs::write(site.path("docker-stack.yml"), STACK).expect("written");
    fs::write(site.path("run.sh"), script).expect("written");
    let done = site.run(&["deploy", "site", "--version", "1"], &[]);
    assert_eq!(done.code, 0, "{}", done.err);
    Some(site)
}

fn container(site: &Site) -> Value {
    let list = site.json("/containers/json?all=1");
    let id = list[0]["Id"].as_str().expect("an id").to_owned();
    site.json(&format!("/containers/{id}/json"))
}

/// The groups of a task, found through its process.
fn groups(pid: u64) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("readable");
    text.lines().filter(|line| line.contains("/evenkeel/")).map(str::to_owned).collect()
}

#[test]
fn a_task_is_inside_its_limits_from_its_first_instruction() {
    let script = "echo first: $(grep -c evenkeel /proc/self/cgroup) $(ulimit -n) $(ulimit -Hn) \
                  $(cat /proc/self/oom_score_adj)\ngrep CapBnd /proc/self/status\n\
                  while :; do :; done &\nexec sleep 600\n";
    let Some(site) = start(script) else { return };
    await_state("its bounds", || site.run(&["logs", "site_work"], &[]).out.contains("CapBnd"));
    let said = site.run(&["logs", "site_work"], &[]).out;
    let first = said.lines().find(|line| line.contains("first: ")).expect("said");
    let words: Vec<&str> = first.split("first: ").nth(1).expect("more").split(' ').collect();
    assert!(words[0].parse::<u32>().is_ok_and(|groups| groups > 0), "{first}");
    assert_eq!(words[1..], ["123", "456", "77"], "{first}");
    let bounds = said.lines().find(|line| line.contains("CapBnd")).expect("said");
    let bounds = u64::from_str_radix(bounds.split_whitespace().last().expect("a number"), 16);
    assert_eq!(bounds.expect("hexadecimal") >> 13 & 1, 0, "CAP_NET_RAW is gone");
    let shown = container(&site);
    assert_eq!(shown["HostConfig"]["Memory"], 32 << 20);
    assert_eq!(shown["HostConfig"]["NanoCpus"], 250_000_000);
    assert_eq!(shown["HostConfig"]["PidsLimit"], 20);
    let path = format!("/containers/{}/stats?stream=0", shown["Id"].as_str().expect("an id"));
    let mut stats = site.json(&path);
    await_state("it is held back", || {
        stats = site.json(&path);
        stats["cpu_stats"]["throttling_data"]["throttled_periods"].as_u64() > Some(0)
    });
    assert_eq!(stats["memory_stats"]["limit"], 32 << 20, "{stats}");
    assert_eq!(stats["pids_stats"]["limit"], 20);
    assert!(stats["memory_stats"]["usage"].as_u64() > Some(0), "{stats}");
    let own = site.run(&["stats", "--json"], &[]).out;
    let own: Value = serde_json::from_str(&own).expect("is JSON");
    assert_eq!(own["tasks"][0]["memory_limit_bytes"], 32 << 20, "{own}");
}

#[test]
fn a_task_that_uses_too_much_memory_is_killed_and_that_is_said() {
    let Some(site) = start("trap 'exec tail /dev/zero' USR1\nwhile :; do sleep 0.1; done\n") else {
        return;
    };
    let id = container(&site)["Id"].as_str().expect("an id").to_owned();
    let (status, _) = site.ask("POST", &format!("/containers/{id}/kill?signal=USR1"));
    assert_eq!(status, 204);
    await_state("its end", || container(&site)["State"]["Running"] == false);
    let state = container(&site)["State"].clone();
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()), "{state}");
    let error = state["Error"].as_str().expect("an error");
    let expected = "killed for using more than its memory limit of 32 MiB";
    assert!(error.ends_with(expected), "{error}");
    assert!(site.run(&["ps"], &[]).out.contains(expected));
}

#[test]
fn groups_are_found_again_by_the_next_engine_and_go_with_their_task() {
    let Some(site) = start("exec sleep 600\n") else { return };
    let pid = container(&site)["State"]["Pid"].as_u64().expect("a process");
    let before = groups(pid);
    assert!(!before.is_empty());
    let ended = site.run(&["daemon", "--stop"], &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(groups(pid), before);
    let started = site.run(&["daemon", "--background"], &[]);
    assert_eq!(started.code, 0, "{}", started.err);
    assert_eq!(container(&site)["HostConfig"]["PidsLimit"], 20);
    let place = |line: &str| -> Option<String> {
        let (mounts, name) = (fs::read_to_string("/proc/mounts").ok()?, line.split(':').nth(1)?);
        let is_it = |mount: &&str| {
            let fields: Vec<&str> = mount.split(' ').collect();
            let kind = if name.is_empty() { "cgroup2" } else { "cgroup" };
            fields[2] == kind && name.split(',').all(|name| fields[3].contains(name))
        };
        let top = mounts.lines().find(is_it)?.split(' ').nth(1)?.to_owned();
        Some(format!("{top}{}", line.split(':').nth(2)?))
    };
    let folders: Vec<String> = before.iter().filter_map(|line| place(line)).collect();
    assert!(!folders.is_empty() && folders.iter().all(|folder| Path::new(folder).exists()));
    let removed = site.run(&["rm", "site", "--yes"], &[]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    await_state("its groups are gone", || folders.iter().all(|f| !Path::new(f).exists()));
}

#[test]
fn what_a_machine_cannot_do_for_a_task_is_a_warning() {
    let site = Site::start();
    let stack = STACK.replace("    deploy:", "    read_only: true\n    deploy:");
    let plain = stack.replace("      resources:", "      labels: {a: b}\n      x-not:");
    fs::write(site.path("docker-stack.yml"), plain).expect("written");
    fs::write(site.path("run.sh"), "exec sleep 600\n").expect("written");
    let done = site.run(&["deploy", "site", "--version", "1"], &[]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("warning: site_work: ReadOnly has no effect"), "{}", done.err);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let Some(site) = start("exec sleep 600\n") else { return };
    let wrong = STACK.replace("memory: 32M", "memory: 1M");
    fs::write(site.path("docker-stack.yml"), wrong).expect("written");
    let refused = site.run(&["deploy", "site", "--version", "2"], &[]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains("Must be at least 4MiB"), "{}", refused.err);
}
