//! What the orchestrator promises, one sentence per test; the Swarm defects it must not copy first.

mod chaos;
mod job;
mod place;
mod restart;
mod rollback;
mod rollout;
mod scale;
mod scene;
mod store;
