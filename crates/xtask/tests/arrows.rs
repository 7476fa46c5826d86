//! The allowed arrows between the crates; any other fails.

use std::process::Command;

use serde_json::Value;

/// Crate → the crates of ours that it may depend on. `None`: any.
const ALLOWED: &[(&str, Option<&[&str]>)] = &[
    ("orchestrator", Some(&[])),
    ("net", Some(&[])),
    ("stack", Some(&["orchestrator"])),
    ("dockerapi", Some(&["orchestrator", "net"])),
    ("engine", Some(&["orchestrator", "dockerapi", "net"])),
    ("follower", Some(&["orchestrator", "dockerapi", "net"])),
    ("ingress", Some(&["net"])),
    ("ops", Some(&["stack", "dockerapi", "net", "orchestrator"])),
    ("cli", None),
    ("sim", Some(&["orchestrator", "stack", "ingress", "ops"])),
    ("load", Some(&[])),
    ("lab", Some(&[])),
    ("xtask", None),
    ("probe", Some(&[])),
    ("conformance", Some(&["lab"])),
    ("fuzz", None),
    ("clients", Some(&[])),
    ("ala-backend", Some(&[])),
    ("ala-database", Some(&[])),
    ("ala-frontend", Some(&[])),
    ("ala-priority-sim", Some(&[])),
];

#[test]
fn every_crate_depends_only_on_what_the_architecture_allows() {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .expect("cargo metadata runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name}: not in the table of crates"));
            continue;
        };
        let Some(allowed) = allowed else { continue };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            let is_ours = names.contains(&on);
            let is_for_tests = dependency["kind"].as_str() == Some("dev");
            if is_ours && !is_for_tests && !allowed.contains(&on) {
                wrong.push(format!("{name} → {on}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the architecture forbids:\n{}", wrong.join("\n"));
}
