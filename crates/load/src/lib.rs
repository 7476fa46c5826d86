//! Open-loop traffic with proof: sends at a fixed rate whatever the answers, never retries, records
//! every outcome, and at the end asks the database whether every acknowledged write is there
//! exactly once.
//!
//! Reading order: [`schedule`] (what is sent when), [`client`] (one request over one connection),
//! [`entry`] (which address is asked), [`shot`] (what is asked and what counts as right), [`websocket`], [`tally`] and [`report`] (what
//! came of it), [`proof`] (what the database says), [`run`] (the story). [`postgres`] starts a
//! throw-away database for whoever has none.
//!
//! This crate never sends a request a second time, and never leaves out an outcome it did not like.

pub mod client;
pub mod entry;
pub mod ledger;
pub mod outcome;
pub mod plan;
pub mod postgres;
pub mod proof;
pub mod report;
pub mod run;
pub mod schedule;
pub mod shot;
pub mod tally;
pub mod websocket;

pub use entry::Left;
pub use plan::{Plan, Target};
pub use postgres::Postgres;
pub use report::Report;
pub use run::run;
