//! The bare API: versions, filters, refusals, lookups.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Scenario, scenario};
use crate::exam::{Exam, PATIENCE, is_id, text};

pub const ALL: &[Scenario] = &[
    scenario("C01", "ping", ping),
    scenario("C02", "versions", versions),
    scenario("C03", "unknown paths and methods", routing),
    scenario("C04", "filters", filters),
    scenario("C05", "a minimal service and its defaults", minimal),
    scenario("C06", "services that cannot be", invalid),
    scenario("C07", "names and ports are taken once", duplicates),
    scenario("C08", "updates out of sequence", optimistic),
    scenario("C09", "what cannot change", immutable),
    scenario("C10", "lookups by name, id and prefix", lookups),
    scenario("C14", "the node", node),
];

fn ping(exam: &Exam<'_>) -> Result<()> {
    for (method, wanted) in [("HEAD", ""), ("GET", "OK")] {
        let (status, head, body) = exam.api(method, "/_ping", "")?;
        ensure!(status == 200 && body.trim() == wanted, "{method}: {status} {body}");
        for part in ["api-version: ", "ostype: linux", "cache-control: no-cache"] {
            ensure!(head.contains(part), "{method}: {part} is missing: {head}");
        }
    }
    Ok(())
}

fn versions(exam: &Exam<'_>) -> Result<()> {
    let (_, head, _) = exam.api("GET", "/_ping", "")?;
    let highest = head.split("api-version: ").nth(1).unwrap_or("").lines().next().unwrap_or("");
    let version = exam.get(&format!("/v{highest}/version"))?;
    ensure!(version["ApiVersion"] == highest && version["MinAPIVersion"].is_string(), "{version}");
    let words =
        format!("client version 1.99 is too new. Maximum supported API version is {highest}");
    exam.refuses(("GET", "/v1.99/services", ""), (400, &words))
}

fn routing(exam: &Exam<'_>) -> Result<()> {
    for (method, path) in [("GET", "/v1.41/nope"), ("PUT", "/v1.41/services")] {
        let (status, _, body) = exam.api(method, path, "")?;
        let body: serde_json::Value = serde_json::from_str(&body)?;
        let wanted = json!({ "message": "page not found" });
        ensure!(status == 404 && body == wanted, "{method} {path}: {status} {body}");
    }
    exam.get("/services").map(drop)
}

fn filters(exam: &Exam<'_>) -> Result<()> {
    let path = |filters: &str| format!("/v1.41/services?filters={}", filters.replace('"', "%22"));
    for filters in [r#"{"name":{"zz":true}}"#, r#"{"name":["zz"]}"#] {
        ensure!(exam.get(&path(filters))? == json!([]), "{filters}");
    }
    let bogus = path(r#"{"bogus":{"x":true}}"#);
    exam.refuses(("GET", &bogus, ""), (400, "invalid filter 'bogus'"))?;
    exam.refuses(("GET", &path("zzz"), ""), (400, ""))
}

fn minimal(exam: &Exam<'_>) -> Result<()> {
    let spec = json!({ "TaskTemplate": { "ContainerSpec": { "Image": "sem:1" } } }).to_string();
    let (status, _, body) = exam.api("POST", "/v1.41/services/create", &spec)?;
    ensure!(status == 201, "{status} {body}");
    let id = text(&serde_json::from_str::<serde_json::Value>(&body)?["ID"]);
    let plain = exam.service(&id)?;
    let full = exam.service(&format!("{id}?insertDefaults=true"))?;
    exam.docker(&format!("service rm {id}"))?.fine()?;
    ensure!(is_id(&id), "id {id}");
    let spec = &plain["Spec"];
    ensure!(!text(&spec["Name"]).is_empty(), "it gets a name");
    ensure!(spec["Mode"]["Replicated"]["Replicas"] == 1, "{}", spec["Mode"]);
    for (part, key) in [(spec, "UpdateConfig"), (&spec["TaskTemplate"], "RestartPolicy")] {
        ensure!(part.get(key).is_none(), "{key}: no defaults unless asked for");
    }
    let spec = &full["Spec"];
    let template = &spec["TaskTemplate"];
    ensure!(template["ContainerSpec"]["StopGracePeriod"] == 10_000_000_000_u64, "grace");
    let policy = &template["RestartPolicy"];
    ensure!(policy["Condition"] == "any" && policy["MaxAttempts"] == 0, "{policy}");
    ensure!(policy["Delay"] == 5_000_000_000_u64, "{policy}");
    for config in ["UpdateConfig", "RollbackConfig"] {
        let config = &spec[config];
        ensure!(config["Parallelism"] == 1 && config["FailureAction"] == "pause", "{config}");
        ensure!(
            config["Monitor"] == 5_000_000_000_u64 && config["Order"] == "stop-first",
            "{config}"
        );
        ensure!(config["MaxFailureRatio"].as_f64() == Some(0.0), "{config}");
    }
    Ok(())
}

fn invalid(exam: &Exam<'_>) -> Result<()> {
    let image = json!({ "Image": "sem:1" });
    let template = json!({ "ContainerSpec": image });
    let both = json!({ "Replicated": {}, "Global": {} });
    let always = json!({ "ContainerSpec": image, "RestartPolicy": { "Condition": "always" } });
    for (spec, words) in [
        (
            json!({ "Name": "bad name!", "TaskTemplate": template }),
            "name must be valid as a DNS name component",
        ),
        (json!({ "TaskTemplate": { "ContainerSpec": {} } }), "image reference must be provided"),
        (json!({ "TaskTemplate": {} }), "mismatched Runtime and *Spec fields"),
        (json!({ "TaskTemplate": template, "Mode": both }), "must specify only one service mode"),
        (json!({ "TaskTemplate": always }), "invalid RestartCondition: \"always\""),
    ] {
        exam.refuses(("POST", "/v1.41/services/create", &spec.to_string()), (400, words))?;
    }
    let networks = json!([{ "Target": "nonet" }]);
    let spec = json!({ "TaskTemplate": { "ContainerSpec": image, "Networks": networks } });
    let (status, _, body) = exam.api("POST", "/v1.41/services/create", &spec.to_string())?;
    ensure!(status >= 400 && body.contains("network nonet not found"), "{status} {body}");
    Ok(())
}

fn duplicates(exam: &Exam<'_>) -> Result<()> {
    exam.create("c07", "--publish 18077:8080", "sem:1")?;
    let again = json!({ "Name": "c07", "TaskTemplate": { "ContainerSpec": { "Image": "sem:1" } } });
    exam.refuses(("POST", "/v1.41/services/create", &again.to_string()), (409, "already exists"))?;
    let second = json!({
        "Name": "c07b", "TaskTemplate": { "ContainerSpec": { "Image": "sem:1" } },
        "EndpointSpec": { "Ports": [{ "TargetPort": 8080, "PublishedPort": 18077 }] },
    });
    let id = text(&exam.service("c07")?["ID"]);
    let words =
        format!("port '18077' is already in use by service 'c07' ({id}) as an ingress port");
    exam.refuses(("POST", "/v1.41/services/create", &second.to_string()), (400, &words))
}

fn optimistic(exam: &Exam<'_>) -> Result<()> {
    exam.create("c08", "", "sem:1")?;
    exam.until_running("c08", 1)?;
    let service = exam.service("c08")?;
    let index = service["Version"]["Index"].as_u64().unwrap_or(0);
    let path = |version: &str| format!("/v1.41/services/c08/update?version={version}");
    let spec = service["Spec"].to_string();
    for wrong in [index - 1, index + 100] {
        let path = path(&wrong.to_string());
        exam.refuses(("POST", &path, &spec), (500, "update out of sequence"))?;
    }
    exam.refuses(("POST", &path("abc"), &spec), (400, ""))?;
    let (status, _, body) = exam.api("POST", &path(&index.to_string()), &spec)?;
    ensure!(status == 200 && body.trim() == r#"{"Warnings":null}"#, "{status} {body}");
    let after = exam.service("c08")?["Version"]["Index"].as_u64().unwrap_or(0);
    ensure!(after > index, "{after} after {index}");
    Ok(())
}

fn immutable(exam: &Exam<'_>) -> Result<()> {
    exam.create("c09", "", "sem:1")?;
    let service = exam.service("c09")?;
    let path = format!("/v1.41/services/c09/update?version={}", service["Version"]["Index"]);
    let mut renamed = service["Spec"].clone();
    renamed["Name"] = json!("other");
    let words = "renaming services is not supported";
    exam.refuses(("POST", &path, &renamed.to_string()), (501, words))?;
    let mut global = service["Spec"].clone();
    global["Mode"] = json!({ "Global": {} });
    let words = "service mode change is not allowed";
    exam.refuses(("POST", &path, &global.to_string()), (501, words))
}

fn lookups(exam: &Exam<'_>) -> Result<()> {
    exam.create("c10", "", "sem:1")?;
    let id = text(&exam.service("c10")?["ID"]);
    for key in ["c10", id.as_str(), &id[..8]] {
        ensure!(exam.service(key)?["ID"] == id.as_str(), "{key}");
    }
    for method in ["GET", "DELETE"] {
        let words = "service nosuch not found";
        exam.refuses((method, "/v1.41/services/nosuch", ""), (404, words))?;
    }
    Ok(())
}

fn node(exam: &Exam<'_>) -> Result<()> {
    let format = "{{.ID}}|{{.Self}}|{{.Status}}|{{.Availability}}|{{.ManagerStatus}}";
    let out = exam.client(&["node", "ls", "--format", format], "", PATIENCE)?.fine()?;
    let id = out.split('|').next().unwrap_or_default().to_owned();
    ensure!(is_id(&id) && out.trim() == format!("{id}|true|Ready|Active|Leader"), "{out}");
    let table = exam.docker("node ls")?.fine()?;
    let rows: Vec<&str> = table.lines().collect();
    ensure!(rows.len() == 2 && rows[1].starts_with(&format!("{id} *")), "{table}");
    Ok(())
}
