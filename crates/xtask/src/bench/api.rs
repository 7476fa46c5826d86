//! The engine's API beside a Docker daemon's, in one run: what listing and inspecting costs with
//! few and with many services, how fast logs come, and what 500 tasks cost in memory.

mod latency;
mod logs;
mod memory;
mod peer;

use anyhow::{Result, bail};
use conformance::{
    build,
    engine::{self, Engine, Kind},
    image,
};
use serde_json::Value;

use super::{Metric, result};

/// Both engines, each with the images of the exam's service.
pub struct Both {
    pub ours: Engine,
    pub theirs: Engine,
}

pub fn run() -> Result<Value> {
    if let Some(missing) = engine::missing_for_dockerd() {
        bail!("a Docker daemon cannot start here: {missing}");
    }
    let keel = build("cli", None)?;
    let archive = image::archive(&build("conformance", Some("semapp"))?)?;
    let both = Both {
        ours: Engine::start(Kind::Embedded, &keel)?,
        theirs: Engine::start(Kind::Dockerd, &keel)?,
    };
    both.ours.load(&archive)?;
    both.theirs.load(&archive)?;
    let mut metrics: Vec<Metric> = Vec::new();
    metrics.extend(latency::measure(&both)?);
    metrics.extend(logs::measure(&both)?);
    metrics.extend(memory::measure(&both)?);
    result("api", &metrics)
}
