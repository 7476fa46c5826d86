//! The follower's socket: `/evenkeel/v1` for what Docker's API has no words for, and everything else
//! passed on to this node's Docker, byte by byte where a connection is taken over.

use std::path::PathBuf;

use bytes::Bytes;
use dockerapi::ApiError;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::{io::copy_bidirectional, net::UnixStream};

use crate::{
    StatsSource,
    follow::{Known, Shared},
    roster::Stage,
    view::{State, Task, Wanted},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = BoxBody<Bytes, BoxError>;

/// What the endpoints work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) docker: PathBuf,
    pub(crate) stats: StatsSource,
    pub(crate) version: &'static str,
}

impl Api {
    pub(crate) async fn respond(self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let own = path.find("/evenkeel/v1/").map(|at| &path[at + "/evenkeel/v1/".len()..]);
        let answer = match own {
            Some(what) if request.method() == Method::GET => self.own(what).await,
            Some(_) => Err(ApiError::not_found("page not found")),
            None => self.pass_on(request).await,
        };
        answer.unwrap_or_else(|error| with_status(error.status, error.body()))
    }

    async fn own(&self, what: &str) -> Result<Response<Body>, ApiError> {
        let value = match what {
            "ready" => self.ready(),
            "tasks" => tasks(&self.shared.known()),
            "ports" => ports(&self.shared.known()),
            "nodes" => nodes(&self.shared.known()),
            "stats" => {
                let ingress = (self.stats)().await;
                let services = ingress.get("services").cloned().unwrap_or(json!([]));
                let known = self.shared.known();
                json!({
                    "services": services, "tasks": [],
                    "listen_failures": known.listen_failures,
                })
            }
            _ => return Err(ApiError::not_found("page not found")),
        };
        Ok(with_status(StatusCode::OK, format!("{value}\n")))
    }

    fn ready(&self) -> Value {
        let known = self.shared.known();
        json!({
            "control": true, "engine": "swarm", "ingress": known.is_connected,
            "listen_failures": known.listen_failures, "blind": known.is_blind,
            "node": known.local.node, "docker": self.docker, "pid": std::process::id(),
            "version": self.version,
        })
    }

    /// One request to Docker, and its answer as it comes.
    async fn pass_on(&self, mut request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let unreachable = |error: &dyn std::fmt::Display| ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: format!("Docker at unix://{} does not answer: {error}", self.docker.display()),
        };
        let stream = UnixStream::connect(&self.docker).await.map_err(|e| unreachable(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
        tokio::spawn(connection.with_upgrades());
        let takes_over = request.headers().contains_key(header::UPGRADE);
        let ours = takes_over.then(|| upgrade::on(&mut request));
        let mut answer = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        if let Some(ours) = ours.filter(|_| answer.status() == StatusCode::SWITCHING_PROTOCOLS) {
            let theirs = upgrade::on(&mut answer);
            tokio::spawn(async move {
                if let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) {
                    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                    // One side's end is the end: there is nobody to tell of an error.
                    let _ = copy_bidirectional(&mut ours, &mut theirs).await;
                }
            });
        }
        // The answer may go on for as long as the client reads: the connection must live with it.
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed()))
    }
}

fn with_status(status: StatusCode, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Where the traffic of each task stands.
fn tasks(known: &Known) -> Value {
    Value::Array(known.view.tasks.iter().map(|task| one_task(known, task)).collect())
}

fn one_task(known: &Known, task: &Task) -> Value {
    let service = known.view.services.get(&task.service);
    let has_traffic = service.is_some_and(|service| !service.ports.is_empty());
    let stage = known.roster.stage(&task.id);
    let runs = task.state == State::Running && task.wanted == Wanted::Running;
    let endpoint = known.roster.endpoint(&task.id);
    json!({
        "ID": task.id,
        "Name": known.view.task_name(task),
        "Traffic": stage.map_or("off", traffic),
        // Without an ingress nothing can be said of requests: then it is Docker's word that counts.
        "IsServing": runs && (!has_traffic || !known.is_connected || stage == Some(Stage::Ready)),
        "Address": endpoint.and_then(|endpoint| endpoint.addresses.first()).map(|(_, at)| at),
        "Node": task.node,
        "ReleaseVersion": service.map(|service| &service.release),
    })
}

fn traffic(stage: Stage) -> &'static str {
    match stage {
        Stage::Joining => "publishing",
        Stage::Ready => "published",
        Stage::Draining => "draining",
        Stage::Drained => "drained",
    }
}

/// Published ports, the services behind them, and whether the ingress could open them.
fn ports(known: &Known) -> Value {
    let routes = known.roster.routes().iter().map(|route| {
        let error = known.listen_failures.get(&route.published_port);
        json!({
            "PublishedPort": route.published_port, "TargetPort": route.target_port,
            "Service": route.service, "Listening": known.is_connected && error.is_none(),
            "Error": error, "Code": error.map(|_| "port-in-use"),
        })
    });
    Value::Array(routes.collect())
}

fn nodes(known: &Known) -> Value {
    let nodes = known.view.nodes.iter().map(|(id, node)| {
        json!({
            "ID": id, "Hostname": node.hostname, "Address": node.address, "IsUp": node.is_up,
            "IsManager": node.is_manager, "IsLeader": node.is_leader, "IsHere": *id == known.local.node,
        })
    });
    Value::Array(nodes.collect())
}
