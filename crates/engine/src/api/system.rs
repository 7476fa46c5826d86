//! Ping, version, info, the swarm and its one node, events.

use std::convert::Infallible;

use bytes::Bytes;
use dockerapi::{ApiError, stamp, version as api_version};
use http::{Method, header::HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, body::Frame};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{Answer, Api, Body, Call, full, json as respond};
use crate::control::{State, hostname};

pub(super) fn ping(method: &Method) -> Response<Body> {
    let body: &'static [u8] = if method == Method::HEAD { b"" } else { b"OK" };
    let mut response = Response::new(full(Bytes::from_static(body)));
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("api-version", api_version::text(api_version::NEWEST));
    set("ostype", "linux".to_owned());
    set("docker-experimental", "false".to_owned());
    set("builder-version", "1".to_owned());
    set("swarm", "active/manager".to_owned());
    set("cache-control", "no-cache, no-store, must-revalidate".to_owned());
    set("server", format!("Evenkeel/{} (linux)", env!("CARGO_PKG_VERSION")));
    set("content-type", "text/plain; charset=utf-8".to_owned());
    response
}

pub(super) fn version() -> Value {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    json!({
        "Platform": { "Name": "Evenkeel embedded engine" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": api_version::text(api_version::NEWEST),
        "MinAPIVersion": api_version::text(api_version::OLDEST),
        "Os": "linux", "Arch": "amd64", "KernelVersion": kernel,
        "GitCommit": "", "GoVersion": "", "BuildTime": "",
        "Components": [],
    })
}

pub(super) fn already_a_swarm() -> ApiError {
    ApiError::unavailable(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and \
         join another one.",
    )
}

fn node(state: &State) -> Value {
    json!({
        "ID": state.node_id,
        "Version": { "Index": 9 },
        "CreatedAt": stamp::text(state.created_at),
        "UpdatedAt": stamp::text(state.created_at),
        "Spec": { "Labels": {}, "Role": "manager", "Availability": "active" },
        "Description": {
            "Hostname": hostname(),
            "Platform": { "Architecture": "x86_64", "OS": "linux" },
            "Engine": { "EngineVersion": env!("CARGO_PKG_VERSION") },
            "Resources": {},
        },
        "Status": { "State": "ready", "Addr": "127.0.0.1" },
        "ManagerStatus": { "Leader": true, "Reachability": "reachable", "Addr": "127.0.0.1:2377" },
    })
}

impl Api {
    pub(super) async fn info(&self) -> Answer {
        let images = self.images.list().len();
        let info = self
            .control
            .read(move |state| {
                let running = state.world.tasks().filter(|task| task.is_live()).count();
                json!({
                    "ID": state.cluster_id,
                    "Name": hostname(),
                    "ServerVersion": env!("CARGO_PKG_VERSION"),
                    "OperatingSystem": "Evenkeel embedded engine",
                    "OSType": "linux", "Architecture": "x86_64",
                    "Containers": running, "ContainersRunning": running, "ContainersPaused": 0,
                    "ContainersStopped": 0, "Images": images, "Driver": "process",
                    "Swarm": {
                        "NodeID": state.node_id, "NodeAddr": "127.0.0.1",
                        "LocalNodeState": "active", "ControlAvailable": true, "Error": "",
                        "RemoteManagers": [{ "NodeID": state.node_id, "Addr": "127.0.0.1:2377" }],
                        "Nodes": 1, "Managers": 1,
                        "Cluster": {
                            "ID": state.cluster_id, "Version": { "Index": 9 },
                            "CreatedAt": stamp::text(state.created_at),
                            "UpdatedAt": stamp::text(state.created_at),
                            "Spec": { "Name": "default", "Labels": {} },
                        },
                    },
                })
            })
            .await?;
        Ok(respond(&info))
    }

    pub(super) async fn swarm(&self) -> Answer {
        let swarm = self
            .control
            .read(|state| {
                json!({
                    "ID": state.cluster_id, "Version": { "Index": 9 },
                    "CreatedAt": stamp::text(state.created_at),
                    "UpdatedAt": stamp::text(state.created_at),
                    "Spec": {
                        "Name": "default", "Labels": {},
                        "Orchestration": { "TaskHistoryRetentionLimit": 5 },
                    },
                    "JoinTokens": { "Worker": "", "Manager": "" },
                })
            })
            .await?;
        Ok(respond(&swarm))
    }

    pub(super) async fn nodes(&self) -> Answer {
        Ok(respond(&self.control.read(|state| json!([node(state)])).await?))
    }

    pub(super) async fn node(&self, key: &str) -> Answer {
        let found = self.control.read(node).await?;
        let is_it = found["ID"].as_str().is_some_and(|id| key == "self" || id.starts_with(key))
            || found["Description"]["Hostname"] == key;
        if is_it {
            Ok(respond(&found))
        } else {
            Err(ApiError::not_found(format!("node {key} not found")))
        }
    }

    /// Events as they happen, until the client goes. One that stops reading loses the connection.
    pub(super) async fn events(&self, _call: &Call) -> Answer {
        let receiver = self.control.events.subscribe();
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(event) => {
                    let line = Bytes::from(format!("{event}\n"));
                    Some((Ok::<_, Infallible>(Frame::data(line)), receiver))
                }
                Err(RecvError::Lagged(_) | RecvError::Closed) => None,
            }
        });
        let body = BodyExt::map_err(
            StreamBody::new(Box::pin(stream)),
            |never: Infallible| -> super::BoxError { match never {} },
        );
        let mut response = Response::new(http_body_util::BodyExt::boxed(sync(body)));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        Ok(response)
    }

    pub(super) fn disk_usage(&self) -> Response<Body> {
        let size: u64 = self.images.list().iter().map(|(image, _)| image.size).sum();
        respond(&json!({
            "LayersSize": size, "Images": super::images::summaries(&self.images),
            "Containers": [], "Volumes": [], "BuildCache": [],
        }))
    }
}

/// Lets a stream that is only ever read by one task be shared, as boxed bodies must be.
pub(super) fn sync<B>(body: B) -> SyncBody<B> {
    SyncBody(std::sync::Mutex::new(body))
}

#[derive(Debug)]
pub(super) struct SyncBody<B>(std::sync::Mutex<B>);

impl<B: http_body::Body + Unpin> http_body::Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let body = self.get_mut().0.get_mut();
        let body = body.unwrap_or_else(std::sync::PoisonError::into_inner);
        std::pin::Pin::new(body).poll_frame(context)
    }
}
