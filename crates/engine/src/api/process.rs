//! The processes of a container as `docker top` lists them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
};

use jiff::{Timestamp, tz::TimeZone};

pub(super) const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// One process, as `/proc` tells of it.
struct Process {
    parent: u32,
    group: u32,
    ticks: u64,
    started: u64,
    user: u32,
    command: String,
}

/// The main process with its group and all that descends from it.
pub(super) fn table(main: u32) -> Vec<[String; 8]> {
    let all = all();
    let mut own: BTreeSet<u32> = BTreeSet::from([main]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, process)| {
                let is_own = own.contains(&process.parent) || process.group == main;
                is_own && !own.contains(pid)
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        own.extend(more);
    }
    let users = users();
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let boot = boot_time();
    let rows = own.iter().filter_map(|pid| Some((pid, all.get(pid)?)));
    rows.map(|(pid, process)| {
        let started = boot.saturating_add(i64::try_from(process.started / ticks).unwrap_or(0));
        let started = Timestamp::from_second(started).unwrap_or_default();
        let started = started.to_zoned(TimeZone::system()).strftime("%H:%M").to_string();
        let seconds = process.ticks / ticks;
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let user = users.get(&process.user).cloned().unwrap_or(process.user.to_string());
        let (pid, parent) = (pid.to_string(), process.parent.to_string());
        let (load, terminal) = ("0".to_owned(), "?".to_owned());
        [user, pid, parent, load, started, terminal, time, process.command.clone()]
    })
    .collect()
}

fn all() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name is in parentheses and may hold anything: fields count from the last one.
        let (name, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let name = name.split_once('(').map_or("", |(_, name)| name);
        let command = match arguments.trim() {
            "" => format!("[{name}]"),
            arguments => arguments.to_owned(),
        };
        let process = Process {
            parent: u32::try_from(number(1)?).ok()?,
            group: u32::try_from(number(2)?).ok()?,
            ticks: number(11)? + number(12)?,
            started: number(19)?,
            user: entry.metadata().ok()?.uid(),
            command,
        };
        Some((pid, process))
    });
    read.collect()
}

fn users() -> BTreeMap<u32, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(entry).collect()
}

/// Seconds since 1970 at the machine's start.
fn boot_time() -> i64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_listed_with_what_it_started() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let rows = table(std::process::id());
        let pid = child.id().to_string();
        let row = rows.iter().find(|row| row[1] == pid).expect("its child");
        assert_eq!(row[2], std::process::id().to_string());
        assert!(rows.iter().all(|row| row[4].len() == 5 && row[6].len() == 8), "{rows:?}");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}
