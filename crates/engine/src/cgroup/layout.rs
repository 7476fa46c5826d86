//! What the machine has, from the kernel's own words. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where control groups are mounted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    /// Controller → its hierarchy.
    pub(super) v1: BTreeMap<String, PathBuf>,
    /// The top of version 2, and the group that this process is in.
    pub(super) v2: Option<(PathBuf, PathBuf)>,
}

impl Layout {
    /// From `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn read(mounts: &str, own: &str) -> Self {
        let mut layout = Self::default();
        for line in mounts.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let Some(place) = front.split(' ').nth(4) else { continue };
            let place = PathBuf::from(place.replace("\\040", " "));
            let mut back = back.split(' ');
            match (back.next(), back.nth(1)) {
                (Some("cgroup2"), _) if layout.v2.is_none() => {
                    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
                    let current = place.join(path.unwrap_or(""));
                    layout.v2 = Some((place, current));
                }
                (Some("cgroup"), Some(options)) => {
                    for option in options.split(',') {
                        layout.v1.entry(option.to_owned()).or_insert_with(|| place.clone());
                    }
                }
                _ => {}
            }
        }
        layout
    }
}

/// The folders of the groups that a process is in, by hierarchy.
pub(super) fn current(mounts: &str, own: &str) -> Vec<(PathBuf, PathBuf)> {
    let layout = Layout::read(mounts, own);
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let top = match names {
            "" => layout.v2.as_ref().map(|(top, _)| top.clone()),
            names => names.split(',').find_map(|name| layout.v1.get(name).cloned()),
        };
        if let Some(top) = top {
            let folder = top.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new("")));
            found.push((top, folder));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn both_versions_are_found_where_they_are_mounted() {
        let layout = Layout::read(V1, "4:memory:/a\n0::/user.slice/x.scope\n");
        assert_eq!(layout.v1["cpuacct"], Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(layout.v1["memory"], Path::new("/sys/fs/cgroup/memory"));
        let top = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(layout.v2, Some((top.to_owned(), top.join("user.slice/x.scope"))));
        let pure = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let layout = Layout::read(pure, "0::/\n");
        assert!(layout.v1.is_empty());
        assert_eq!(layout.v2.map(|(_, own)| own), Some("/sys/fs/cgroup/".into()));
        assert_eq!(Layout::read("nothing\n - \n1 2 - cgroup", ""), Layout::default());
    }

    #[test]
    fn the_groups_of_a_process_are_folders() {
        let found = current(V1, "4:memory:/a/b\n2:cpu,cpuacct:/\n9:name=systemd:/\n0::/c\n");
        let folders: Vec<PathBuf> = found.into_iter().map(|(_, folder)| folder).collect();
        let at = |path: &str| PathBuf::from(format!("/sys/fs/cgroup/{path}"));
        assert_eq!(folders, [at("memory/a/b"), at("cpu,cpuacct/"), at("unified/c")]);
    }
}
