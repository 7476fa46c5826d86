//! What the environment says, with the rules of Docker's `postgres` image.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};

/// Where the server's programs are.
pub const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// What the data is called in the image: without a volume there, it would be a folder of the machine.
const IN_IMAGE: &str = "/var/lib/postgresql/data";
/// A socket's path may not be longer.
const SOCKET_LIMIT: usize = 107;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub data: PathBuf,
    pub user: String,
    pub password: String,
    pub database: String,
    pub port: u16,
}

impl Settings {
    /// `variable` is the environment; a value may also be a file's content (`…_FILE`).
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let value = |name: &str| -> Result<Option<String>> {
            let file = set(&format!("{name}_FILE"));
            match (set(name), file) {
                (Some(_), Some(_)) => bail!("both {name} and {name}_FILE are set; take one out"),
                (None, Some(file)) => {
                    let text = fs::read_to_string(&file);
                    let text = text.with_context(|| format!("read {name}_FILE `{file}`"))?;
                    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
                }
                (value, None) => Ok(value),
            }
        };
        let user = value("POSTGRES_USER")?.unwrap_or_else(|| "postgres".to_owned());
        let data = set("PGDATA").unwrap_or_else(|| IN_IMAGE.to_owned());
        if data == IN_IMAGE {
            bail!(
                "there is no volume at {IN_IMAGE} to keep the data in; give one with `-v NAME:{IN_IMAGE}`"
            );
        }
        let port = set("PORT").unwrap_or_else(|| "5432".to_owned());
        let port = port.parse().with_context(|| format!("PORT {port:?} is not a port"))?;
        Ok(Self {
            database: value("POSTGRES_DB")?.unwrap_or_else(|| user.clone()),
            password: value("POSTGRES_PASSWORD")?.unwrap_or_default(),
            data: checked(data.into(), port)?,
            user,
            port,
        })
    }
}

/// The server's socket lies in its data: others cannot reach it there.
fn checked(data: PathBuf, port: u16) -> Result<PathBuf> {
    let socket = data.join(format!(".s.PGSQL.{port}"));
    let length = socket.as_os_str().len();
    if length > SOCKET_LIMIT {
        bail!("the path {} is too long for a socket; use a shorter one", socket.display());
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(|name| {
            let mut all = set.iter().chain(&[("PGDATA", "/volume")]);
            all.find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_database_is_called_as_its_user_unless_it_is_named() {
        let settings = read(&[("POSTGRES_USER", "ala"), ("PORT", "20001")]).expect("fine");
        assert_eq!((settings.database.as_str(), settings.port), ("ala", 20001));
        assert_eq!(read(&[]).expect("fine").user, "postgres");
        let named = read(&[("POSTGRES_USER", "ala"), ("POSTGRES_DB", "records")]).expect("fine");
        assert_eq!(named.database, "records");
    }

    #[test]
    fn a_password_may_come_from_a_file_and_not_from_two_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        fs::write(&file, "s3cret\n").expect("written");
        let file = file.to_string_lossy();
        let settings = read(&[("POSTGRES_PASSWORD_FILE", &file)]).expect("fine");
        assert_eq!(settings.password, "s3cret");
        let twice = [("POSTGRES_PASSWORD_FILE", &*file), ("POSTGRES_PASSWORD", "x")];
        assert!(read(&twice).is_err());
        assert!(read(&[("PORT", "many")]).is_err());
        assert!(read(&[("PGDATA", &"/x".repeat(60))]).is_err());
        assert!(read(&[("PGDATA", IN_IMAGE)]).is_err(), "no volume");
    }
}
