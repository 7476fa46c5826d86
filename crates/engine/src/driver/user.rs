//! The user a task runs as, looked up in the image's own files first.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use dockerapi::spec::ContainerSpec;

use super::plan::{self, ImageConfig};
use crate::image;

/// Ids of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user that a task runs as, where that is another one than the engine's.
pub(super) fn of(
    image: &ImageConfig<'_>,
    spec: &ContainerSpec,
    root: &Path,
) -> Result<Option<User>, String> {
    let name = plan::user(image, spec);
    if name.is_empty() {
        return Ok(None);
    }
    let user = find(name, root)?;
    let own = rustix::process::geteuid().as_raw();
    match (user.uid, own) {
        (uid, own) if uid == own => Ok(None),
        (_, 0) => Ok(Some(user)),
        (uid, own) => Err(format!(
            "the task is to run as user {name} ({uid}), and the engine, which is not root, may \
             only run tasks as its own user ({own}); take `user:` out, or run the engine as root"
        )),
    }
}

/// `name`, `id`, each with an optional `:group`, as Docker reads it.
pub(super) fn find(text: &str, root: &Path) -> Result<User, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let known = line(root, "/etc/passwd", user);
    let field = |at: usize| known.as_ref().and_then(|line| line.split(':').nth(at)?.parse().ok());
    let uid = field(2).or_else(|| user.parse().ok());
    let uid = uid.ok_or_else(|| format!("unable to find user {user}: no matching entries"))?;
    let gid = match group {
        None => field(3).unwrap_or(0),
        Some(group) => line(root, "/etc/group", group)
            .and_then(|line| line.split(':').nth(2)?.parse().ok())
            .or_else(|| group.parse().ok())
            .ok_or_else(|| format!("unable to find group {group}: no matching entries"))?,
    };
    Ok(User { uid, gid })
}

/// The entry of a name or number, from the image's file or else from the host's.
fn line(root: &Path, file: &str, key: &str) -> Option<String> {
    let own = image::path::resolve(root, Path::new(file)).filter(|own| own.is_file());
    let text = fs::read_to_string(own.unwrap_or_else(|| file.into())).ok()?;
    let is = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() == Some(key) || fields.nth(1) == Some(key)
    };
    text.lines().find(is).map(str::to_owned)
}

/// A folder on the way to `path` that the user may not pass.
pub(super) fn closed_folder(path: &Path, user: User) -> Option<&Path> {
    path.ancestors().find(|folder| {
        let Ok(known) = fs::metadata(folder) else { return false };
        let shift = match () {
            () if known.uid() == user.uid => 6,
            () if known.gid() == user.gid => 3,
            () => 0,
        };
        known.is_dir() && (known.permissions().mode() >> shift) & 1 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number_in_the_images_own_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let etc = folder.path().join("etc");
        fs::create_dir(&etc).expect("made");
        fs::write(etc.join("passwd"), "app:x:1500:1600:App:/app:/bin/sh\n").expect("written");
        fs::write(etc.join("group"), "web:x:1700:\n").expect("written");
        let of = |text: &str| find(text, folder.path()).map(|user| (user.uid, user.gid));
        assert_eq!(of("app"), Ok((1500, 1600)));
        assert_eq!(of("1500"), Ok((1500, 1600)));
        assert_eq!(of("app:web"), Ok((1500, 1700)));
        assert_eq!(of("77:88"), Ok((77, 88)));
        assert_eq!(of("77"), Ok((77, 0)));
        let missing = of("nobody-here").expect_err("is not there");
        assert_eq!(missing, "unable to find user nobody-here: no matching entries");
    }
}
