//! Who the server runs as: PostgreSQL refuses root.

use std::{fs, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};

/// The user that root gives its place to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// None when we are nobody special ourselves.
pub fn find() -> Result<Option<Owner>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let found = account(&accounts, "postgres").or_else(|| account(&accounts, "nobody"));
    found.map(Some).context("PostgreSQL does not run as root, and there is no user `postgres`")
}

fn account(accounts: &str, name: &str) -> Option<Owner> {
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(Owner { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

/// A program that runs as the owner.
pub fn command(program: &str, owner: Option<Owner>) -> Command {
    let mut command = Command::new(program);
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "postgres-old:x:1:2::/:/bin/sh\npostgres:x:107:115::/:/bin/sh\n";
        assert_eq!(account(accounts, "postgres"), Some(Owner { uid: 107, gid: 115 }));
        assert_eq!(account(accounts, "post"), None);
    }
}
