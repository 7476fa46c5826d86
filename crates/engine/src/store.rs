//! What survives: one SQLite file, written in whole transactions, each on disk before anything is
//! done about it.

use std::{
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, params};

/// The schema this binary writes.
const SCHEMA: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("state file `{path}` is damaged: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    #[error("state file `{path}` was written by a newer keel (schema {found}, known {SCHEMA})")]
    Newer { path: PathBuf, found: i64 },
    #[error("write state `{path}`: {reason}")]
    Io { path: PathBuf, reason: String },
}

/// One object to save: its kind, id and JSON; none deletes it.
#[derive(Clone, Debug)]
pub struct Write {
    pub kind: &'static str,
    pub id: String,
    pub body: Option<String>,
}

/// The open state file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    /// Opens or creates the file, checks it, and keeps a copy of it as `state.db.last-good`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let corrupt = |error: rusqlite::Error| StoreError::Corrupt {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path: path.to_owned(), reason: error.to_string() }
            }
            _ => StoreError::Io { path: path.to_owned(), reason: error.to_string() },
        };
        private(path)
            .map_err(|error| StoreError::Io { path: path.to_owned(), reason: error.to_string() })?;
        let connection = Connection::open(path).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "cache_size", -512).map_err(failed)?;
        let healthy: String =
            connection.query_row("PRAGMA quick_check", [], |row| row.get(0)).map_err(corrupt)?;
        if healthy != "ok" {
            return Err(StoreError::Corrupt { path: path.to_owned(), reason: healthy });
        }
        let found: i64 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(corrupt)?;
        if found > SCHEMA {
            return Err(StoreError::Newer { path: path.to_owned(), found });
        }
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS objects (
                     kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
                     PRIMARY KEY (kind, id)
                 ) WITHOUT ROWID;
                 PRAGMA user_version = 1;",
            )
            .map_err(failed)?;
        let store = Self { path: path.to_owned(), connection };
        store.keep_copy();
        Ok(store)
    }

    /// A copy of a state that opened well: what an operator restores when the file is damaged.
    fn keep_copy(&self) {
        let copy = self.path.with_extension("db.last-good");
        let beside = self.path.with_extension("db.copying");
        if let Err(error) = private(&beside) {
            return tracing::warn!(%error, path = %beside.display(), "no copy of the state is kept");
        }
        let copied = (|| {
            let mut target = Connection::open(&beside)?;
            rusqlite::backup::Backup::new(&self.connection, &mut target)?.run_to_completion(
                1000,
                std::time::Duration::ZERO,
                None,
            )
        })();
        match copied {
            Ok(()) => drop(std::fs::rename(&beside, &copy)),
            Err(error) => {
                tracing::warn!(%error, "no copy of the state was kept");
                let _ = std::fs::remove_file(&beside);
            }
        }
    }

    /// All objects of a kind: id and JSON.
    pub fn all(&self, kind: &str) -> Result<Vec<(String, String)>, StoreError> {
        let read = || {
            let mut statement =
                self.connection.prepare_cached("SELECT id, body FROM objects WHERE kind = ?1")?;
            let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|error| self.corrupt(&error))
    }

    pub fn get(&self, kind: &str, id: &str) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row("SELECT body FROM objects WHERE kind = ?1 AND id = ?2", [kind, id], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|error| self.corrupt(&error))
    }

    /// Saves all of it or nothing. Returns when it is on disk.
    pub fn save(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let path = self.path.clone();
        let saved = (|| {
            let transaction = self.connection.transaction()?;
            for write in writes {
                match &write.body {
                    Some(body) => transaction
                        .prepare_cached(
                            "INSERT INTO objects VALUES (?1, ?2, ?3)
                             ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                        )?
                        .execute(params![write.kind, write.id, body])?,
                    None => transaction
                        .prepare_cached("DELETE FROM objects WHERE kind = ?1 AND id = ?2")?
                        .execute(params![write.kind, write.id])?,
                };
            }
            transaction.commit()
        })();
        saved.map_err(|error: rusqlite::Error| {
            let reason = match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => "no space left on device".to_owned(),
                _ => error.to_string(),
            };
            StoreError::Io { path, reason }
        })
    }

    fn corrupt(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), reason: error.to_string() }
    }
}
/// The state holds secrets: whoever may pass its folder must not read the file. What SQLite puts
/// beside it gets the same mode.
fn private(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::options().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}
