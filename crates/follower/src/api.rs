//! The follower's socket: `/evenkeel/v1` for what Docker's API has no words for, and everything else
//! passed on to this node's Docker, byte by byte where a connection is taken over.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use dockerapi::ApiError;
use http::{Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use net::{Peer, TlsFiles};
use serde_json::{Value, json};
use tokio::{io::copy_bidirectional, net::UnixStream};

use crate::{
    StatsSource,
    follow::{Known, Shared},
    peer::{self, MANAGER},
    room,
    roster::Stage,
    view::{Node, State, Task, Wanted},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = BoxBody<Bytes, BoxError>;

/// Before our own endpoints.
const OWN: &str = "/evenkeel/v1/";

/// What the endpoints work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) docker: PathBuf,
    pub(crate) stats: StatsSource,
    pub(crate) version: &'static str,
    pub(crate) identity: TlsFiles,
    /// Where Docker keeps everything.
    pub(crate) docker_root: PathBuf,
}

impl Api {
    /// Somebody on this node's own socket.
    pub(crate) async fn respond(self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let own = path.find(OWN).map(|at| &path[at + OWN.len()..]);
        let answer = match own.map(|own| (own, own.strip_prefix("nodes/"))) {
            None => self.pass_on(request).await,
            Some((_, Some(of_node))) => self.to_node(of_node, request).await,
            Some((what, None)) if request.method() == Method::GET => self.own(what).await,
            Some(_) => Err(unknown()),
        };
        answer.unwrap_or_else(|error| with_status(error.status, error.body()))
    }

    /// Another node's daemon, which has proven that it is of this Swarm.
    pub(crate) async fn respond_to_peer(self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let is_manager = request.extensions().get::<Peer>().is_some_and(|p| p.is_named(MANAGER));
        let answer = match path.strip_prefix("/docker/") {
            Some(_) if !is_manager => {
                let message = "only managers of the Swarm may use a node's Docker".to_owned();
                Err(ApiError { status: StatusCode::FORBIDDEN, message })
            }
            Some(_) => match without(&request, "/docker") {
                Ok(uri) => {
                    *request.uri_mut() = uri;
                    self.pass_on(request).await
                }
                Err(error) => Err(error),
            },
            None if path == "/evenkeel/v1/view" => self.view(),
            None if path == "/evenkeel/v1/ready" => {
                Ok(with_status(StatusCode::OK, self.ready().to_string()))
            }
            None => Err(unknown()),
        };
        answer.unwrap_or_else(|error| with_status(error.status, error.body()))
    }

    /// What this manager knows now.
    fn view(&self) -> Result<Response<Body>, ApiError> {
        let known = self.shared.known();
        let unavailable = |message| ApiError { status: StatusCode::SERVICE_UNAVAILABLE, message };
        let view = serde_json::to_string(known.for_others().map_err(unavailable)?);
        let view = view.unwrap_or_default();
        Ok(with_status(StatusCode::OK, view))
    }

    /// `ID/docker/…`: the Docker of another node, through its daemon.
    async fn to_node(
        &self,
        what: &str,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, ApiError> {
        let (id, _) = what.split_once("/docker/").ok_or_else(unknown)?;
        let at = request.uri().path().find(&format!("{id}/docker/")).ok_or_else(unknown)?;
        let before = request.uri().path()[..at + id.len()].to_owned();
        let (is_here, address) = {
            let known = self.shared.known();
            let node = known.view.nodes.get(id);
            let unknown = || ApiError::not_found(format!("node {id} not found"));
            (id == known.local.node, node.ok_or_else(unknown)?.address.clone())
        };
        if is_here {
            *request.uri_mut() = without(&request, &format!("{before}/docker"))?;
            return self.pass_on(request).await;
        }
        *request.uri_mut() = without(&request, &before)?;
        let unreachable = |error: &dyn std::fmt::Display| ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: error.to_string(),
        };
        let address = address.parse().map_err(|_| unreachable(&"the node has no address"))?;
        let sender = peer::connect(&self.identity, address, id).await;
        exchange(sender.map_err(|error| unreachable(&error))?, request)
            .await
            .map_err(|error| unreachable(&error))
    }

    async fn own(&self, what: &str) -> Result<Response<Body>, ApiError> {
        let value = match what {
            "ready" => self.ready(),
            "tasks" => tasks(&self.shared.known()),
            "ports" => ports(&self.shared.known()),
            "nodes" => self.nodes().await,
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
            "listen_failures": known.listen_failures, "blind": known.sight.blindness(),
            "node": known.local.node, "docker": self.docker, "pid": std::process::id(),
            "version": self.version, "room": room::of_this_machine(&self.docker_root),
        })
    }

    /// The nodes of the Swarm, each with what its daemon tells of its machine.
    async fn nodes(&self) -> Value {
        let nodes = self.shared.known().view.nodes.clone();
        let mut asked = tokio::task::JoinSet::new();
        for (id, node) in nodes {
            let api = self.clone();
            asked.spawn(async move { api.one_node(&id, &node).await });
        }
        let mut shown = asked.join_all().await;
        shown.sort_by_key(|node| node["Hostname"].as_str().map(str::to_owned));
        Value::Array(shown)
    }

    async fn one_node(&self, id: &str, node: &Node) -> Value {
        let is_here = id == self.shared.known().local.node;
        let said = match node.address.parse() {
            _ if is_here => Ok(self.ready()),
            Ok(address) => peer::ready(&self.identity, address, id).await,
            Err(_) => Ok(Value::Null),
        };
        let (said, error) = match said {
            Ok(said) => (said, None),
            Err(error) => (Value::Null, Some(error.to_string())),
        };
        json!({
            "ID": id, "Hostname": node.hostname, "Address": node.address, "IsUp": node.is_up,
            "IsManager": node.is_manager, "IsLeader": node.is_leader, "IsHere": is_here,
            "Version": said.get("version"), "Ingress": said.get("ingress"), "Error": error,
            "MemoryFreeBytes": said.pointer("/room/memory_free_bytes"),
            "DiskFreeBytes": said.pointer("/room/disk_free_bytes"),
            "DiskBytes": said.pointer("/room/disk_bytes"),
        })
    }

    /// One request to Docker, and its answer as it comes.
    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let unreachable = |error: &dyn std::fmt::Display| ApiError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: format!("Docker at unix://{} does not answer: {error}", self.docker.display()),
        };
        let stream = UnixStream::connect(&self.docker).await.map_err(|e| unreachable(&e))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
        tokio::spawn(connection.with_upgrades());
        exchange(sender, request).await.map_err(|error| unreachable(&error))
    }
}

fn unknown() -> ApiError {
    ApiError::not_found("page not found")
}

/// The request's path and query without what comes before.
fn without(request: &Request<Incoming>, prefix: &str) -> Result<Uri, ApiError> {
    let whole = request.uri().path_and_query().map_or("/", |whole| whole.as_str());
    let rest = whole.strip_prefix(prefix).unwrap_or(whole);
    rest.parse().map_err(|_| ApiError::bad_parameter(format!("`{rest}` is not a path")))
}

/// Passes one request on, with its answer as it comes, and the connection when it is taken over.
async fn exchange(
    mut sender: http1::SendRequest<Incoming>,
    mut request: Request<Incoming>,
) -> hyper::Result<Response<Body>> {
    let takes_over = request.headers().contains_key(header::UPGRADE);
    let ours = takes_over.then(|| upgrade::on(&mut request));
    let mut answer = sender.send_request(request).await?;
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
    Ok(answer.map(|body| body.map_err(BoxError::from).boxed()))
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
