//! Migrations: SQL files applied once each, in the order of their names, by one replica at a time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio_postgres::Client;

use crate::database::{self, Database};
use crate::log;
use crate::password;
use crate::settings::{SeedUser, Settings};

/// Any number will do as long as every replica uses the same one.
const LOCK: i64 = 0x0A1A_5EED;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error("read the migrations in `{}`: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("migration `{name}`: {source}")]
    Apply { name: String, source: tokio_postgres::Error },
    #[error("prepare the database: {0}")]
    Statement(#[from] tokio_postgres::Error),
}

impl Error {
    /// Whether it may pass by itself, as a database that is starting.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Database(error) => !matches!(error, database::Error::Address),
            Error::Statement(error) => error.as_db_error().is_none(),
            Error::Apply { source, .. } => source.is_closed(),
            Error::Read { .. } => false,
        }
    }
}

/// Brings the database to this version's schema. Files applied by a newer version are left alone,
/// so that the older one can run beside it.
pub async fn run(database: &Database, settings: &Settings) -> Result<(), Error> {
    let files = read(&settings.migrations)?;
    let mut client = database.connect().await?;
    client.batch_execute("SET lock_timeout = '30s'; SET client_min_messages = 'warning'").await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    apply(&mut client, &files).await?;
    if let Some(user) = &settings.seed_user {
        seed(&client, user).await?;
    }
    // The lock goes with the connection.
    Ok(())
}

struct File {
    name: String,
    sql: String,
}

fn read(folder: &Path) -> Result<Vec<File>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.push(File { name, sql: std::fs::read_to_string(&path).map_err(failed)? });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

async fn apply(client: &mut Client, files: &[File]) -> Result<(), Error> {
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let rows = client.query("SELECT version FROM schema_migrations", &[]).await?;
    let applied: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    for file in files.iter().filter(|file| !applied.contains(&file.name)) {
        let failed = |source| Error::Apply { name: file.name.clone(), source };
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(&file.sql).await.map_err(failed)?;
        transaction
            .execute("INSERT INTO schema_migrations (version) VALUES ($1)", &[&file.name])
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        log::info("migration", &format!("applied {}", file.name));
    }
    Ok(())
}

async fn seed(client: &Client, user: &SeedUser) -> Result<(), Error> {
    let known =
        client.query_opt("SELECT 1 FROM users WHERE username = $1", &[&user.username]).await?;
    if known.is_none() {
        let hash = password::hash(&user.password.0);
        client
            .execute(
                "INSERT INTO users (username, password_hash) VALUES ($1, $2)
                 ON CONFLICT DO NOTHING",
                &[&user.username, &hash],
            )
            .await?;
        log::info("seed", &format!("created the user {}", user.username));
    }
    Ok(())
}
