//! Sockets that root shares with the group `docker`, as Docker does: an API of root's is for its
//! members too, any other for its own user alone.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use tokio::net::UnixListener;

use crate::listen::{ListenError, unix_listener_of};

/// The group whose members may use what is root's.
const GROUP: &str = "docker";

/// Listens on a unix socket for whoever may use it.
pub fn shared_listener(path: &Path) -> Result<UnixListener, ListenError> {
    let group = group();
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    unix_listener_of(path, mode, group)
}

/// Lets whoever may use a socket in `folder` pass through it; nobody else.
pub fn let_pass(folder: &Path) -> io::Result<()> {
    let Some(group) = group() else { return Ok(()) };
    chown(folder, None, Some(group))?;
    let mode = fs::metadata(folder)?.permissions().mode() | 0o010;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}

/// The group's number; none where there is no such group, or this process may give nothing away.
fn group() -> Option<u32> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    number(&fs::read_to_string("/etc/group").ok()?, GROUP)
}

fn number(groups: &str, name: &str) -> Option<u32> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\ndockerroot:x:990:\ndocker:x:991:ada,bob\nbroken:x\n";
        assert_eq!(number(groups, "docker"), Some(991));
        assert_eq!(number(groups, "dock"), None);
        assert_eq!(number(groups, "broken"), None);
    }
}
