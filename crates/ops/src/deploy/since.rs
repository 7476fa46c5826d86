//! What of a service spec came with which version of the API. An older engine drops such a field
//! without a word, so it is said before anything is changed.

use dockerapi::version;
use serde_json::Value;

/// What it means when the engine does not know the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The service runs as it should, only less finely tuned.
    Tuning,
    /// It would not be what was asked for.
    Meaning,
}

/// Place in the spec, key in the stack file, version, its Docker, what a loss means.
type Field = (&'static str, &'static str, (u32, u32), &'static str, Loss);

/// From the version history of the Docker Engine API.
const FIELDS: &[Field] = &[
    ("/Mode/ReplicatedJob", "deploy.mode", (1, 41), "20.10", Loss::Meaning),
    ("/Mode/GlobalJob", "deploy.mode", (1, 41), "20.10", Loss::Meaning),
    ("/TaskTemplate/ContainerSpec/CapabilityAdd", "cap_add", (1, 41), "20.10", Loss::Meaning),
    ("/TaskTemplate/ContainerSpec/CapabilityDrop", "cap_drop", (1, 41), "20.10", Loss::Meaning),
    ("/TaskTemplate/ContainerSpec/Ulimits", "ulimits", (1, 41), "20.10", Loss::Meaning),
    (
        "/TaskTemplate/Resources/Limits/Pids",
        "deploy.resources.limits.pids",
        (1, 41),
        "20.10",
        Loss::Meaning,
    ),
    (
        "/TaskTemplate/ContainerSpec/Healthcheck/StartInterval",
        "healthcheck.start_interval",
        (1, 44),
        "25.0",
        Loss::Tuning,
    ),
    ("/TaskTemplate/ContainerSpec/OomScoreAdj", "oom_score_adj", (1, 46), "27.0", Loss::Tuning),
];

/// What a spec loses on an engine: texts for what only tunes, and for what must not be lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub tuning: Vec<String>,
    pub meaning: Vec<String>,
}

/// `speaks` tells whether the engine speaks a version.
pub(super) fn lost(service: &str, spec: &Value, speaks: impl Fn((u32, u32)) -> bool) -> Lost {
    let mut lost = Lost::default();
    for (place, key, since, docker, loss) in FIELDS {
        if speaks(*since) || spec.pointer(place).is_none_or(Value::is_null) {
            continue;
        }
        let since = version::text(*since);
        let text = format!("{service}: `{key}` needs API {since} (Docker {docker})");
        match loss {
            Loss::Tuning => lost.tuning.push(text),
            Loss::Meaning => lost.meaning.push(text),
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_older_engine_would_drop_is_named_with_the_version_that_knows_it() {
        let spec = json!({
            "Mode": { "Replicated": { "Replicas": 1 } },
            "TaskTemplate": { "ContainerSpec": {
                "CapabilityDrop": ["ALL"], "Healthcheck": { "StartInterval": 1 },
            } },
        });
        let on = |engine: (u32, u32)| lost("web", &spec, |since| engine >= since);
        let tuning =
            || vec!["web: `healthcheck.start_interval` needs API 1.44 (Docker 25.0)".to_owned()];
        let meaning = vec!["web: `cap_drop` needs API 1.41 (Docker 20.10)".to_owned()];
        assert_eq!(on((1, 40)), Lost { tuning: tuning(), meaning });
        assert_eq!(on((1, 41)), Lost { tuning: tuning(), meaning: Vec::new() });
        assert_eq!(on((1, 44)), Lost::default());
    }
}
