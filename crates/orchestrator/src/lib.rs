//! What a service is and what must happen next: reconcile, rolling update and rollback, restart
//! policy, and the traffic handshake, as one pure state machine.
//!
//! Reading order: [`spec`] (what the operator wants), [`task`] (one execution of a slot),
//! [`event`] (what comes in, what goes out), [`world`] (all state), then [`machine`] (`step`).
//!
//! This crate never reads a clock, does IO, draws random numbers, spawns or waits. Time is an
//! argument; every wait is a deadline derived from state, so a crash and restart loses nothing.

pub mod event;
mod invariant;
mod job;
pub mod machine;
pub mod node;
mod reconcile;
mod restart;
mod rollout;
mod schedule;
pub mod spec;
pub mod task;
pub mod time;
pub mod traffic;
pub mod world;

pub use event::{Action, Event, Observation};
pub use job::{Job, JobCount};
pub use machine::{check, next_deadline, resume, step};
pub use node::{Availability, Constraint, HostPort, Needs, Node, Platform, Unplaced};
pub use spec::{
    FailureAction, Mode, RestartCondition, RestartPolicy, ServiceSpec, TaskSpec, UpdateConfig,
    UpdateOrder,
};
pub use task::{Desired, Observed, ServiceId, SlotKey, Task, TaskId, Traffic};
pub use time::Time;
pub use world::{Changes, RolloutState, RolloutStatus, Service, World};
