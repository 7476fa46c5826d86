//! The settings, read once from the environment at start.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Faults;

/// A value that never shows in logs.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The user made at start when it does not exist yet.
#[derive(Debug, Clone)]
pub struct SeedUser {
    pub username: String,
    pub password: Secret,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    /// What `/api/version` reports (`APP_VERSION`).
    pub version: String,
    /// Which replica this is: host name and process id.
    pub instance: String,
    pub database_url: Secret,
    pub database_connections: usize,
    pub migrations: PathBuf,
    pub jwt_secret: Secret,
    /// Base address of the ERP; without one it counts as unreachable.
    pub priority_url: Option<String>,
    /// Which pages may call the API (`CORS_ORIGIN`, default any: it uses no cookies).
    pub cors_origin: String,
    pub seed_user: Option<SeedUser>,
    /// How long in-flight work may take after SIGTERM.
    pub shutdown: Duration,
    pub faults: Faults,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{name}` is not set; set it, or `{name}_FILE` to a file that holds it")]
    Missing { name: &'static str },
    #[error("`{name}` is not valid: `{value}`; expected {expected}")]
    Invalid { name: &'static str, value: String, expected: &'static str },
    #[error("read the file `{path}` named by `{name}_FILE`: {source}")]
    File { name: &'static str, path: String, source: std::io::Error },
}

impl Settings {
    pub fn from_environment() -> Result<Settings, Error> {
        let host: IpAddr = parsed("HOST", "an IP address")?.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let port = parsed("PORT", "a port number")?.unwrap_or(5000);
        let seed_user = match (variable("TEST_USERNAME"), secret("TEST_PASSWORD")?) {
            (Some(username), Some(password)) => Some(SeedUser { username, password }),
            _ => None,
        };
        Ok(Settings {
            listen: SocketAddr::new(host, port),
            version: variable("APP_VERSION").unwrap_or_else(|| "dev".to_owned()),
            instance: instance(),
            database_url: required("DATABASE_URL")?,
            database_connections: parsed("DATABASE_CONNECTIONS", "a number")?.unwrap_or(3).max(1),
            migrations: variable("MIGRATIONS_DIR").unwrap_or_else(|| "migrations".into()).into(),
            jwt_secret: required("JWT_SECRET")?,
            priority_url: variable("PRIORITY_URL"),
            cors_origin: variable("CORS_ORIGIN").unwrap_or_else(|| "*".to_owned()),
            seed_user,
            shutdown: seconds("SHUTDOWN_SECONDS")?.unwrap_or(Duration::from_secs(25)),
            faults: Faults::from_environment()?,
        })
    }
}

/// A variable that is set to something; set but empty counts as not set, as in a stack file's
/// `${NAME:-}`.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A number of seconds, fractions allowed.
pub fn seconds(name: &'static str) -> Result<Option<Duration>, Error> {
    let Some(value) = variable(name) else { return Ok(None) };
    let parsed = value.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    parsed.map(Some).ok_or(Error::Invalid { name, value, expected: "a number of seconds" })
}

pub fn parsed<T: std::str::FromStr>(
    name: &'static str,
    expected: &'static str,
) -> Result<Option<T>, Error> {
    let Some(value) = variable(name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| Error::Invalid { name, value, expected })
}

fn required(name: &'static str) -> Result<Secret, Error> {
    secret(name)?.ok_or(Error::Missing { name })
}

/// The value of `NAME`, else the contents of the file that `NAME_FILE` names.
fn secret(name: &'static str) -> Result<Option<Secret>, Error> {
    if let Some(value) = variable(name) {
        return Ok(Some(Secret(value)));
    }
    let Some(path) = variable(&format!("{name}_FILE")) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Secret(text.trim_end().to_owned()))),
        Err(source) => Err(Error::File { name, path, source }),
    }
}

fn instance() -> String {
    let host = variable("HOSTNAME")
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .map_or_else(|| "localhost".to_owned(), |name| name.trim().to_owned());
    format!("{host}-{}", std::process::id())
}
