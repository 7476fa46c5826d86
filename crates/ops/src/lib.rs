//! The operator's capabilities: build, release, roll back, scale, restart, remove.
//!
//! Reading order: [`deploy`] tells the story; [`plan`] says what would change, [`judge`] what came
//! of it and [`explain`] why (all three pure); [`rollout`] changes services and takes them back;
//! [`lock`] and [`record`] keep what must survive in the engine itself.
//!
//! This crate talks to the Docker API only. It prints nothing: what happens is told to a
//! [`Progress`], and outcomes are values.

pub mod adopt;
pub mod build;
pub mod deploy;
pub mod error;
pub mod explain;
pub mod judge;
pub mod lock;
pub mod node;
pub mod plan;
pub mod progress;
pub mod record;
pub mod registry;
pub mod remove;
pub mod rollback;
pub mod rollout;
pub mod scale;
pub mod source;
pub mod spread;

pub use error::{Class, Error};
pub use progress::{Progress, Said};
