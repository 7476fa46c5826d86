//! What an engine turned out to be, in words.

use dockerapi::Client;
use serde_json::Value;

/// What answers, as far as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Keel's own, with its version.
    Embedded(String),
    Docker {
        version: String,
        swarm: Swarm,
    },
    /// Another that speaks the API.
    Other(Option<String>),
}

/// A Docker engine's part in a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swarm {
    Manager,
    Worker,
    None,
    /// It did not say.
    Unknown,
}

impl Engine {
    /// Looks at what the client has heard, and asks Docker what it is in its swarm.
    pub async fn of(client: &Client) -> Self {
        let engine = Self::from_header(client.server());
        match engine {
            Self::Docker { version, .. } => {
                let swarm = client.info().await.map_or(Swarm::Unknown, |info| Swarm::of(&info));
                Self::Docker { version, swarm }
            }
            Self::Embedded(_) | Self::Other(_) => engine,
        }
    }

    /// `Docker/20.10.24+dfsg1 (linux)`, as engines call themselves.
    fn from_header(server: Option<&str>) -> Self {
        let Some((name, rest)) = server.and_then(|server| server.split_once('/')) else {
            return Self::Other(server.map(str::to_owned));
        };
        // Packages add what is no version of Docker's.
        let version = rest.split([' ', '+']).next().unwrap_or(rest).to_owned();
        match name {
            "Evenkeel" => Self::Embedded(version),
            "Docker" => Self::Docker { version, swarm: Swarm::Unknown },
            _ => Self::Other(Some(format!("{name} {version}"))),
        }
    }

    /// A stable word for scripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Docker { swarm: Swarm::Manager | Swarm::Worker, .. } => "docker-swarm",
            Self::Docker { swarm: Swarm::None | Swarm::Unknown, .. } => "docker",
            Self::Other(_) => "other",
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(version) => write!(f, "embedded engine {version}"),
            Self::Docker { version, swarm } => match swarm {
                Swarm::Manager => write!(f, "Docker Swarm {version}"),
                Swarm::Worker => write!(f, "Docker {version}, a worker of a swarm,"),
                Swarm::None => write!(f, "Docker {version}, not in a swarm,"),
                Swarm::Unknown => write!(f, "Docker {version}"),
            },
            Self::Other(Some(name)) => f.write_str(name),
            Self::Other(None) => f.write_str("engine"),
        }
    }
}

impl Swarm {
    fn of(info: &Value) -> Self {
        let swarm = &info["Swarm"];
        match swarm["LocalNodeState"].as_str() {
            Some("inactive" | "") => Self::None,
            Some("active") if swarm["ControlAvailable"] == true => Self::Manager,
            Some("active") => Self::Worker,
            // Pending, locked or in error: its own refusals say what to do.
            Some(_) | None => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(server: &str, swarm: Swarm) -> String {
        match Engine::from_header(Some(server)) {
            Engine::Docker { version, .. } => Engine::Docker { version, swarm }.to_string(),
            other => other.to_string(),
        }
    }

    #[test]
    fn an_engine_is_called_what_it_is() {
        let debian = "Docker/20.10.24+dfsg1 (linux)";
        assert_eq!(seen(debian, Swarm::Manager), "Docker Swarm 20.10.24");
        assert_eq!(seen(debian, Swarm::None), "Docker 20.10.24, not in a swarm,");
        assert_eq!(seen("Evenkeel/0.1.0 (linux)", Swarm::None), "embedded engine 0.1.0");
        assert_eq!(seen("Libpod/4.3.1 (linux)", Swarm::None), "Libpod 4.3.1");
        assert_eq!(Engine::from_header(None).to_string(), "engine");
    }

    #[test]
    fn the_part_in_a_swarm_is_what_info_says() {
        let of = |state: &str, control: bool| {
            Swarm::of(&json!({"Swarm": {"LocalNodeState": state, "ControlAvailable": control}}))
        };
        assert_eq!(of("active", true), Swarm::Manager);
        assert_eq!(of("active", false), Swarm::Worker);
        assert_eq!(of("inactive", false), Swarm::None);
        assert_eq!(of("locked", false), Swarm::Unknown);
        assert_eq!(Swarm::of(&json!({})), Swarm::Unknown);
    }
}
