//! Images of the scenarios' service, as `docker save` would write them.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An archive with `sem:1` to `sem:3` and, with a health check, `semh:1` to `semh:3`.
pub fn archive(app: &Path) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "app", &std::fs::read(app)?, 0o755)?;
    let layer = layer.into_inner()?;
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "layer.tar", &layer, 0o644)?;
    let mut manifest = Vec::new();
    for (name, has_check) in [("sem", false), ("semh", true)] {
        for version in 1..=3 {
            let config = config(version, has_check, &hex(&layer)).to_string();
            let file = format!("{}.json", hex(config.as_bytes()));
            append(&mut archive, &file, config.as_bytes(), 0o644)?;
            manifest.push(json!({
                "Config": file, "RepoTags": [format!("{name}:{version}")], "Layers": ["layer.tar"],
            }));
        }
    }
    append(&mut archive, "manifest.json", json!(manifest).to_string().as_bytes(), 0o644)?;
    Ok(archive.into_inner()?)
}

fn config(version: u8, has_check: bool, layer: &str) -> Value {
    let mut config = json!({ "Env": [format!("V={version}")], "Entrypoint": ["/app"] });
    if has_check {
        config["Healthcheck"] = json!({
            "Test": ["CMD", "/app", "health"], "Interval": 1_000_000_000_u64,
            "Timeout": 2_000_000_000_u64, "Retries": 2,
        });
    }
    json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": config, "history": [],
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    })
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn append(to: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    to.append_data(&mut header, name, bytes)?;
    Ok(())
}
