//! What survives: one SQLite file, written in whole transactions, each on disk before anything is
//! done about it.

mod seal;

use std::{
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, params};

use seal::Seal;

/// The kinds of object that are sealed.
const SEALED: [&str; 2] = ["secret", "registry-auth"];
/// The schema this binary writes.
const SCHEMA: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("state file `{path}` is damaged: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    #[error("state file `{path}` was written by a newer keel (schema {found}, known {SCHEMA})")]
    Newer { path: PathBuf, found: i64 },
    #[error("key `{path}`: {reason}")]
    Key { path: PathBuf, reason: String },
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
    seal: Seal,
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
        let key = path.with_file_name("secrets.key");
        let io =
            |error: std::io::Error| StoreError::Io { path: key.clone(), reason: error.to_string() };
        let seal = Seal::open(&key).map_err(io)?;
        let store = Self { path: path.to_owned(), connection, seal };
        store.check_key()?;
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

    /// A new key opens nothing that was sealed before.
    fn check_key(&self) -> Result<(), StoreError> {
        let mut is_lost = false;
        for kind in SEALED {
            is_lost |=
                self.seal.is_new && self.raw(kind)?.iter().any(|(_, body)| Seal::is_sealed(body));
        }
        if is_lost {
            let _ = std::fs::remove_file(self.seal.path());
            return Err(StoreError::Key {
                path: self.seal.path().to_owned(),
                reason: "it is missing, and the secrets of this state were sealed with it"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// All objects of a kind: id and JSON.
    pub fn all(&self, kind: &str) -> Result<Vec<(String, String)>, StoreError> {
        let all = self.raw(kind)?;
        if !SEALED.contains(&kind) {
            return Ok(all);
        }
        let open = |(id, body): (String, String)| match self.seal.unseal(&id, body) {
            Some(body) => Ok((id, body)),
            None => Err(StoreError::Key {
                path: self.seal.path().to_owned(),
                reason: format!("it does not open {kind} {id}"),
            }),
        };
        all.into_iter().map(open).collect()
    }

    fn raw(&self, kind: &str) -> Result<Vec<(String, String)>, StoreError> {
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
        let failed = |error: std::io::Error| StoreError::Io {
            path: path.clone(),
            reason: error.to_string(),
        };
        let mut sealed = std::collections::BTreeMap::new();
        for write in writes.iter().filter(|write| SEALED.contains(&write.kind)) {
            if let Some(body) = &write.body {
                let key = (write.kind, &write.id);
                sealed.insert(key, self.seal.seal(&write.id, body).map_err(failed)?);
            }
        }
        let saved = (|| {
            let transaction = self.connection.transaction()?;
            for write in writes {
                match &write.body {
                    Some(body) => transaction
                        .prepare_cached(
                            "INSERT INTO objects VALUES (?1, ?2, ?3)
                             ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                        )?
                        .execute(params![
                            write.kind,
                            write.id,
                            sealed.get(&(write.kind, &write.id)).unwrap_or(body)
                        ])?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_in_the_file_and_without_the_key_the_engine_does_not_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let body = r#"{"Spec":{"Data":"cGFzc3dvcmQ="}}"#;
        let write = |kind| Write { kind, id: "one".to_owned(), body: Some(body.to_owned()) };
        let mut store = Store::open(&path).expect("made");
        store.save(&[write("secret")]).expect("saved");
        assert_eq!(store.all("secret").expect("read"), [("one".to_owned(), body.to_owned())]);
        drop(store);
        let names = ["state.db", "state.db-wal", "state.db.last-good"];
        let files = names.map(|name| std::fs::read(folder.path().join(name)).unwrap_or_default());
        let all = String::from_utf8_lossy(&files.concat()).into_owned();
        assert!(all.contains("sealed:1:") && !all.contains("cGFzc3dvcmQ="));
        let key = folder.path().join("secrets.key");
        let kept = std::fs::read(&key).expect("the key");
        std::fs::remove_file(&key).expect("removed");
        assert!(matches!(Store::open(&path), Err(StoreError::Key { .. })));
        std::fs::write(&key, kept).expect("put back");
        assert_eq!(Store::open(&path).expect("opened").all("secret").expect("read").len(), 1);
    }
}
