//! One file per command; each gathers facts or asks `ops`, and says what came of it.

pub mod change;
pub mod completions;
pub mod deploy;
pub mod images;
pub mod inspect;
pub mod logs;
pub mod ls;
pub mod ps;
pub mod releases;
pub mod rm;
pub mod rollback;
pub mod scale;
pub mod stats;
pub mod version;

use dockerapi::Client;

use crate::{args::Globals, failure::Failure, output::Output, place};

/// What every command works with.
#[derive(Clone, Debug)]
pub struct Context {
    pub globals: Globals,
    pub output: Output,
}

impl Context {
    /// A client of the engine that is meant.
    pub async fn client(&self) -> Result<Client, Failure> {
        let host = place::host(&self.globals)?;
        let client = match place::tls() {
            Some(files) => Client::with_tls(&host, &files)?,
            None => Client::new(&host)?,
        };
        Ok(client.negotiate().await?)
    }
}
