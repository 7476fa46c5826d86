//! The Docker Engine API as seen from both ends: the service spec and its meaning, the shape of
//! errors, filters, log frames and times, and a small client.
//!
//! Specs travel as raw JSON and are edited as raw JSON, so a field that nobody here models is
//! never dropped. [`spec`] reads them; it never writes them back.

pub mod client;
pub mod convert;
pub mod error;
pub mod filter;
pub mod frame;
pub mod object;
pub mod publish;
pub mod spec;
pub mod stamp;
pub mod version;
mod wire;

pub use client::{Client, ClientError};
pub use error::ApiError;
