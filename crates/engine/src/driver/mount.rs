//! Volumes and folders of the machine, as a process without a file system of its own gets them: the
//! paths that it is told are those of the folders themselves.

use std::{
    fs, io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use dockerapi::spec::ContainerSpec;
use serde::{Deserialize, Serialize};

use super::user::User;

/// Where a path of the task really is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mounted {
    pub(crate) target: PathBuf,
    pub(crate) source: PathBuf,
}

/// The folder of a named volume; none when it is no name for one.
pub(crate) fn volume(tasks: &Path, name: &str) -> Option<PathBuf> {
    let state = tasks.parent()?;
    is_volume_name(name).then(|| state.join("volumes").join(name))
}

/// Docker's rule for them.
pub(crate) fn is_volume_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_fine)
}

/// The mounts of a task whose folder lies in `tasks`. The error is for people.
pub(crate) fn of(spec: &ContainerSpec, folder: &Path) -> Result<Vec<Mounted>, String> {
    let tasks = folder.parent().unwrap_or(folder);
    let mounts = spec.mounts.iter().map(|mount| {
        let source = match (mount.kind.as_str(), mount.source.as_str()) {
            ("bind", source) => PathBuf::from(source),
            ("volume" | "", name) if !name.is_empty() => volume(tasks, name)
                .ok_or_else(|| format!("volume name {name:?} has other than letters and digits"))?,
            ("volume" | "" | "tmpfs", _) => {
                folder.join("files").join(mount.target.trim_start_matches('/'))
            }
            (other, _) => return Err(format!("mounts of type {other:?} are not supported")),
        };
        let target = PathBuf::from(&mount.target);
        if !target.is_absolute() || target.parent().is_none() {
            return Err(format!("invalid mount target {:?}: not a path below /", mount.target));
        }
        Ok(Mounted { target, source })
    });
    mounts.collect()
}

/// Makes the folders that are ours to make; those of the machine must be there.
pub(super) fn prepare(
    spec: &ContainerSpec,
    mounts: &[Mounted],
    user: Option<User>,
) -> Result<(), String> {
    for (mount, asked) in mounts.iter().zip(&spec.mounts) {
        if asked.kind == "bind" {
            let makes = asked.extra.get("CreateMountpoint").is_some_and(|makes| makes == true);
            if !mount.source.exists() && makes {
                fs::create_dir_all(&mount.source)
                    .map_err(|error| format!("make {}: {error}", mount.source.display()))?;
            }
            if !mount.source.exists() {
                return Err(format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    mount.source.display()
                ));
            }
            continue;
        }
        let is_new = !mount.source.exists();
        let make = || -> io::Result<()> {
            fs::create_dir_all(&mount.source)?;
            match user.filter(|_| is_new) {
                Some(user) => chown(&mount.source, Some(user.uid), Some(user.gid)),
                None => Ok(()),
            }
        };
        make().map_err(|error| format!("make {}: {error}", mount.source.display()))?;
    }
    Ok(())
}

/// The folder that `path` lies in, and the rest of the path there.
pub(crate) fn split<'a>(mounts: &'a [Mounted], path: &'a Path) -> Option<(&'a Path, &'a Path)> {
    mounts
        .iter()
        .find_map(|mount| Some((mount.source.as_path(), path.strip_prefix(&mount.target).ok()?)))
}

/// Where `path` really is, when it lies in one of them.
pub(crate) fn resolve(mounts: &[Mounted], path: &Path) -> Option<PathBuf> {
    let (source, rest) = split(mounts, path)?;
    let is_itself = rest.as_os_str().is_empty();
    Some(if is_itself { source.to_owned() } else { source.join(rest) })
}

#[cfg(test)]
mod tests {
    use dockerapi::spec::Mount;

    use super::*;

    fn spec(kind: &str, source: &str) -> ContainerSpec {
        let mount = Mount {
            kind: kind.to_owned(),
            source: source.to_owned(),
            target: "/data".to_owned(),
            ..Mount::default()
        };
        ContainerSpec { mounts: vec![mount], ..ContainerSpec::default() }
    }

    #[test]
    fn a_path_in_a_volume_is_one_in_its_folder() {
        let folder = Path::new("/state/tasks/one");
        let mounts = of(&spec("volume", "ala_data"), folder).expect("a mount");
        let real = |path: &str| resolve(&mounts, Path::new(path));
        assert_eq!(real("/data/a/b"), Some("/state/volumes/ala_data/a/b".into()));
        assert_eq!(real("/data"), Some("/state/volumes/ala_data".into()));
        assert_eq!(real("/database"), None);
        let own = of(&spec("tmpfs", ""), folder).expect("a mount");
        assert_eq!(own[0].source, Path::new("/state/tasks/one/files/data"));
    }

    #[test]
    fn a_volume_s_name_leads_nowhere_else_and_a_missing_folder_is_named() {
        let folder = Path::new("/state/tasks/one");
        assert!(of(&spec("volume", "../../etc"), folder).is_err());
        assert!(of(&spec("npipe", "x"), folder).is_err());
        let spec = spec("bind", "/nowhere/at/all");
        let mounts = of(&spec, folder).expect("a mount");
        let error = prepare(&spec, &mounts, None).expect_err("it is not there");
        assert!(error.ends_with("bind source path does not exist: /nowhere/at/all"), "{error}");
    }
}
