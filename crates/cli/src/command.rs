//! One file per command; each gathers facts or asks `ops`, and says what came of it.

pub mod adopt;
pub mod change;
pub mod completions;
pub mod deploy;
pub mod dial_stdio;
pub mod exec;
pub mod images;
pub mod inspect;
pub mod logs;
pub mod ls;
pub mod node;
pub mod ps;
pub mod releases;
pub mod rm;
pub mod rollback;
pub mod scale;
pub mod stats;
pub mod version;

use dockerapi::Client;

use crate::{
    args::Globals,
    failure::Failure,
    output::Output,
    target::{Engine, Target},
};

/// What every command works with.
#[derive(Clone, Debug)]
pub struct Context {
    pub globals: Globals,
    pub output: Output,
}

impl Context {
    /// The engine that is meant.
    pub async fn target(&self) -> Result<Target, Failure> {
        let target = Target::find(&self.globals).await?;
        if let Some(warning) = &target.warning {
            self.output.note(&format!("warning: {warning}"));
        }
        Ok(target)
    }

    /// A client of it.
    pub async fn client(&self) -> Result<Client, Failure> {
        self.target().await?.connect().await
    }

    /// A client for a command that changes something: says first which engine it is, and why.
    pub async fn announced(&self) -> Result<Client, Failure> {
        let target = self.target().await?;
        let client = target.connect().await?;
        if !self.output.quiet {
            let engine = Engine::of(&client).await;
            self.output.note(&format!("{engine} at {} ({})", target.host, target.why));
        }
        Ok(client)
    }
}
