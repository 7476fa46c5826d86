//! Comparing what the stack file says with what the engine has.

use serde_json::{Value, json};
use stack::diff::{changes, replaces_tasks};

/// As lowered from a stack file.
fn lowered() -> Value {
    json!({
        "Name": "ala_api",
        "Labels": {"com.docker.stack.image": "api:1", "com.docker.stack.namespace": "ala"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "api:1",
                "Env": ["DB_PASSWORD=one", "LOG=info", "URL=postgres://u:pw1@db/x"],
                "Privileges": {"CredentialSpec": null, "SELinuxContext": null, "NoNewPrivileges": false},
                "Secrets": [{"File": {"Name": "jwt", "UID": "0", "GID": "0", "Mode": 292}, "SecretName": "ala_jwt-1"}],
            },
            "Resources": {},
            "Placement": {},
            "Networks": [{"Target": "ala_default", "Aliases": ["api"]}],
            "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {"Parallelism": 1, "MaxFailureRatio": 0, "Order": "start-first"},
        "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 8080, "PublishedPort": 80, "PublishMode": "ingress"}]},
    })
}

/// The same as an engine returns it.
fn returned() -> Value {
    let mut spec = lowered();
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    container["Isolation"] = json!("default");
    container["Privileges"] = json!({"CredentialSpec": null, "SELinuxContext": null});
    container["StopGracePeriod"] = json!(10_000_000_000u64);
    container["DNSConfig"] = json!({});
    container["Secrets"][0]["SecretID"] = json!("vj1j5jclpxpl78sv9oi0kf83d");
    spec["TaskTemplate"]["Runtime"] = json!("container");
    spec["TaskTemplate"]["RestartPolicy"] =
        json!({"Condition": "any", "Delay": 5_000_000_000u64, "MaxAttempts": 0});
    spec["UpdateConfig"]["FailureAction"] = json!("pause");
    spec["UpdateConfig"]["Monitor"] = json!(5_000_000_000u64);
    spec["UpdateConfig"]["MaxFailureRatio"] = json!(0.0);
    spec["RollbackConfig"] = json!({"Parallelism": 1, "Order": "stop-first"});
    spec["EndpointSpec"]["Mode"] = json!("vip");
    spec["Labels"]["evenkeel.release"] = json!("20251113-140140");
    spec
}

fn lines(before: &Value, after: &Value) -> Vec<String> {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
    let line = |c: stack::diff::Change| {
        let mark = if c.restarts { "!" } else { " " };
        format!("{mark} {}: {} → {}", c.path, shown(c.before), shown(c.after))
    };
    changes(before, after).into_iter().map(line).collect()
}

#[test]
fn defaults_an_engine_fills_in_are_no_change() {
    assert_eq!(lines(&returned(), &lowered()), Vec::<String>::new());
    assert_eq!(lines(&lowered(), &returned()), Vec::<String>::new());
}

#[test]
fn a_change_is_told_in_the_words_of_the_stack_file_and_secrets_stay_hidden() {
    let mut after = lowered();
    after["Labels"]["com.docker.stack.image"] = json!("api:2");
    after["Labels"]["tier"] = json!("front");
    let container = &mut after["TaskTemplate"]["ContainerSpec"];
    container["Image"] = json!("api:2");
    container["Env"] = json!(["DB_PASSWORD=two", "MORE=", "URL=postgres://u:pw2@db/x"]);
    container["Healthcheck"] =
        json!({"Test": ["CMD", "/app health"], "Interval": 1_500_000_000u64});
    container["Args"] = json!(["--api-key=abc", "run"]);
    container["Secrets"][0]["SecretName"] = json!("ala_jwt-2");
    after["TaskTemplate"]["Resources"] =
        json!({"Limits": {"NanoCPUs": 500_000_000u64, "MemoryBytes": 67_108_864u64}});
    after["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.role==manager"]});
    after["Mode"]["Replicated"]["Replicas"] = json!(3);
    after["UpdateConfig"]["Order"] = json!("stop-first");
    after["EndpointSpec"]["Ports"][0]["TargetPort"] = json!(9090);
    let expected = [
        "! command: - → --api-key=(hidden) run",
        "  deploy.labels.tier: - → front",
        "  deploy.placement.constraints: - → node.role==manager",
        "  deploy.replicas: 1 → 3",
        "! deploy.resources.limits.memory_bytes: - → 64M",
        "! deploy.resources.limits.nano_cpus: - → 0.5",
        "  deploy.update_config.order: start-first → stop-first",
        "! environment.DB_PASSWORD: (hidden) → (hidden), changed",
        "! environment.LOG: info → -",
        "! environment.MORE: - → \"\"",
        "! environment.URL: postgres://u:(hidden)@db/x → postgres://u:(hidden)@db/x, changed",
        "! healthcheck.interval: - → 1500ms",
        "! healthcheck.test: - → CMD \"/app health\"",
        "! image: api:1 → api:2",
        "! ports.80/tcp.target_port: 8080 → 9090",
        "! secrets.jwt.secret_name: ala_jwt-1 → ala_jwt-2",
    ];
    assert_eq!(lines(&lowered(), &after), expected);
    assert!(replaces_tasks(&lowered(), &after));
}

#[test]
fn scaling_and_update_settings_replace_no_task() {
    let mut after = lowered();
    after["Mode"]["Replicated"]["Replicas"] = json!(3);
    after["UpdateConfig"] = Value::Null;
    assert!(!replaces_tasks(&lowered(), &after));
    assert_eq!(changes(&lowered(), &after).len(), 2);
}

#[test]
fn a_zero_that_means_something_is_a_change() {
    let mut after = lowered();
    after["UpdateConfig"]["Parallelism"] = json!(0);
    after["TaskTemplate"]["RestartPolicy"] = json!({"Delay": 0});
    after["Mode"] = json!({"Global": {}});
    let expected = [
        "  deploy.mode.global: - → global",
        "! deploy.restart_policy.delay: 5s → 0s",
        "  deploy.update_config.parallelism: 1 → 0",
    ];
    assert_eq!(lines(&lowered(), &after), expected);
}

#[test]
fn the_order_of_lists_with_names_does_not_matter() {
    let mut after = lowered();
    let env = after["TaskTemplate"]["ContainerSpec"]["Env"].as_array_mut().unwrap();
    env.reverse();
    assert_eq!(lines(&lowered(), &after), Vec::<String>::new());
}

#[test]
fn anything_at_all_can_be_compared() {
    for odd in [
        json!(null),
        json!(3),
        json!([]),
        json!({"TaskTemplate": 1}),
        json!({"EndpointSpec": {"Ports": [1, null]}}),
    ] {
        changes(&odd, &lowered());
        changes(&lowered(), &odd);
    }
}
