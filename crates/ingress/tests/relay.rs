//! Two ingresses, each of a node of its own: what comes in at one is answered by tasks of the other.

#[path = "traffic/load.rs"]
mod load;
#[path = "traffic/stage.rs"]
#[expect(dead_code, reason = "the rest is used by other tests")]
mod stage;
#[path = "relay/swarm.rs"]
mod swarm;

use std::{io, net::SocketAddr, sync::atomic::Ordering, time::Duration};

use ingress::{
    control::{Command, Drain, Event},
    endpoint::Description,
    table::{Protocol, Route},
};
use load::{Load, echo, echoes};
use stage::{Backend, Stage};
use swarm::{Cable, Swarm, far};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

/// `here` has tasks; `there` has none of its own.
struct Nodes {
    swarm: Swarm,
    here: Stage,
    there: Stage,
    /// Where other nodes reach `here`.
    gate: SocketAddr,
}

impl Nodes {
    async fn new() -> Self {
        let swarm = Swarm::new();
        let node = swarm.node("here");
        let gate = node.address;
        let there = Stage::on(Some(swarm.node("there"))).await;
        Self { here: Stage::on(Some(node)).await, there, gate, swarm }
    }

    /// The task takes requests on both nodes.
    async fn publish(&mut self, backend: &Backend) {
        self.here.publish(backend).await;
        publish(&mut self.there, far(&backend.name, "here", self.gate)).await;
    }
}

async fn publish(stage: &mut Stage, endpoint: Description) {
    let task = endpoint.task.clone();
    stage.tell(Command::Publish { endpoint }).await;
    assert_eq!(stage.next().await, Event::Published { task });
}

fn drain(task: &str, within: Duration) -> Command {
    let millis = u64::try_from(within.as_millis()).expect("small");
    let drain = Drain { task: task.to_owned(), requests_ms: millis / 2, upgraded_ms: millis };
    Command::Drain { drain }
}

fn drained(task: &str, cut: usize) -> Event {
    Event::Drained { task: task.to_owned(), cut }
}

/// A task that answers each connection with this, and holds it open when it is told to.
async fn says(text: &'static str, holds: bool) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(text.as_bytes()).await;
                    if holds {
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    port
}

/// A request, and what came when `part` of its answer was there.
async fn asks(port: u16, version: &str, part: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("in");
    let text = format!("GET / HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("written");
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains(part) {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("in time");
        came.push(byte.expect("it goes on"));
    }
    (stream, came)
}

/// All that came when the end was there, and whether that was an error.
async fn ends((mut stream, mut came): (TcpStream, Vec<u8>)) -> (String, io::Result<usize>) {
    let read = timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("in time");
    (String::from_utf8_lossy(&came).into_owned(), read)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_tasks_of_another_node_replace_each_other() {
    let mut nodes = Nodes::new().await;
    let mut old = Backend::start("first").await;
    nodes.publish(&old).await;
    let (near, far) = (Load::start(nodes.here.port), Load::start(nodes.there.port));
    for name in ["second", "third", "fourth"] {
        far.goes_on().await;
        let new = Backend::start(name).await;
        nodes.publish(&new).await;
        // Each node hears of it by itself, this one first.
        nodes.here.tell(drain(&old.name, PATIENCE)).await;
        far.goes_on().await;
        nodes.there.tell(drain(&old.name, PATIENCE)).await;
        assert_eq!(nodes.there.next().await, drained(&old.name, 0));
        assert_eq!(nodes.here.next().await, drained(&old.name, 0));
        old.kill();
        old = new;
        near.goes_on().await;
    }
    far.end().await;
    near.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_takes_requests_when_its_own_node_knows_it_and_until_it_drains_there() {
    let mut nodes = Nodes::new().await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    nodes.publish(&one).await;
    let endpoint = far("two", "here", nodes.gate);
    nodes.there.tell(Command::Publish { endpoint }).await;
    assert!(stage::get(nodes.there.port, "/").await.ends_with("one"));
    assert!(nodes.there.is_quiet(), "nobody let it in");
    nodes.here.publish(&two).await;
    assert_eq!(nodes.there.next().await, Event::Published { task: "two".to_owned() });
    nodes.here.tell(drain("one", PATIENCE)).await;
    // Nobody tells the other node: what it asks is refused, and what it keeps is given up.
    assert_eq!(nodes.here.next().await, drained("one", 0));
    nodes.there.await_state("one", "suspect").await;
    one.kill();
    for _ in 0..20 {
        let answer = stage::request(nodes.there.port, "POST", "/", "x").await;
        assert!(answer.ends_with("two"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_what_another_node_asks_of_the_task_and_cuts_it_in_the_end() {
    let mut nodes = Nodes::new().await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    nodes.publish(&one).await;
    let slow = tokio::spawn(stage::request(nodes.there.port, "POST", "/slow", "x"));
    one.await_request().await;
    assert_eq!(nodes.here.shown("one").await["relayed"], 1);
    nodes.publish(&two).await;
    nodes.here.tell(drain("one", PATIENCE)).await;
    for _ in 0..50 {
        assert!(stage::get(nodes.there.port, "/").await.ends_with("two"));
    }
    assert!(nodes.here.is_quiet(), "it has a request in its hands");
    one.release();
    assert!(slow.await.expect("ends").ends_with("one"));
    assert_eq!(nodes.here.next().await, drained("one", 0));

    let seen = two.seen.load(Ordering::SeqCst);
    let lost = tokio::spawn(stage::request(nodes.there.port, "POST", "/slow", "x"));
    let came = timeout(PATIENCE, async {
        while two.seen.load(Ordering::SeqCst) == seen {
            tokio::task::yield_now().await;
        }
    });
    came.await.expect("it has it");
    nodes.here.tell(drain("two", Duration::from_millis(100))).await;
    let Event::Drained { task, cut } = nodes.here.next().await else { panic!("not drained") };
    assert!(task == "two" && cut > 0, "{task} {cut}");
    let lost = lost.await.expect("ends");
    assert!(lost.contains(" 502 ") && lost.contains("x-evenkeel-cut: two"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_is_whole_or_seen_to_be_cut() {
    let mut nodes = Nodes::new().await;
    let port = says("HTTP/1.1 200 OK\r\n\r\nall of it", false).await;
    publish(&mut nodes.here, stage::about("whole", port)).await;
    publish(&mut nodes.there, far("whole", "here", nodes.gate)).await;
    for version in ["1.0", "1.1"] {
        let (came, read) = ends(asks(nodes.there.port, version, "all of it").await).await;
        assert!(read.is_ok(), "{read:?} {came}");
        assert_eq!(came.contains("\r\n0\r\n"), version == "1.1", "{came}");
    }
    nodes.there.tell(drain("whole", PATIENCE)).await;
    assert_eq!(nodes.there.next().await, drained("whole", 0));

    let port = says("HTTP/1.1 200 OK\r\n\r\nhalf of it", true).await;
    publish(&mut nodes.here, stage::about("half", port)).await;
    let cable = Cable::to(nodes.gate).await;
    publish(&mut nodes.there, far("half", "here", cable.address)).await;
    let to = nodes.there.port;
    let old = asks(to, "1.0", "half of it").await;
    let new = asks(to, "1.1", "half of it").await;
    cable.cut();
    let (came, read) = ends(old).await;
    assert!(read.is_err(), "it looks like the end: {came}");
    let (came, _) = ends(new).await;
    assert!(!came.contains("\r\n0\r\n"), "it looks like the end: {came}");
    nodes.here.tell(drain("half", PATIENCE)).await;
    assert_eq!(nodes.here.next().await, drained("half", 0), "the task was given up as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_between_nodes_outlive_those_to_tasks_and_no_process_they_lead_to() {
    let mut nodes = Nodes::new().await;
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nshut";
    publish(&mut nodes.here, stage::about("shuts", says(answer, false).await)).await;
    let cable = Cable::to(nodes.gate).await;
    publish(&mut nodes.there, far("shuts", "here", cable.address)).await;
    let to = nodes.there.port;
    for round in 0..2 {
        let before = cable.count();
        for _ in 0..60 {
            let answer = stage::request(to, "POST", "/", "x").await;
            assert!(answer.ends_with("shut"), "{round}: {answer}");
        }
        let made = cable.count() - before;
        assert!(made <= 30, "{made} connections for 60 requests");
        let old = nodes.here.upgrade(2, HOUR).await;
        // What waits does not keep the process before.
        timeout(PATIENCE, old).await.expect("it ends").expect("no panic").expect("in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_pass_whoever_speaks_first_and_whoever_ends_first() {
    let mut nodes = Nodes::new().await;
    let backend = Backend::start("a").await;
    nodes.publish(&backend).await;
    let mut socket = echo(nodes.there.port).await;
    echoes(&mut socket).await;
    socket.write_all(b"last words").await.expect("written");
    socket.shutdown().await.expect("ended");
    let mut rest = String::new();
    let read = timeout(PATIENCE, socket.read_to_string(&mut rest)).await.expect("in time");
    assert!(read.is_ok() && rest == "last words", "{read:?} {rest}");

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(b"hello").await;
                let mut heard = String::new();
                // Its end first, then the answer.
                if stream.read_to_string(&mut heard).await.is_ok() {
                    let _ = stream.write_all(heard.to_uppercase().as_bytes()).await;
                }
            });
        }
    });
    let published_port = nodes.there.port;
    let (protocol, service) = (Protocol::Tcp, "s".to_owned());
    let route = Route { published_port, target_port: 80, protocol, service, address: None };
    nodes.there.tell(Command::Routes { routes: vec![route] }).await;
    nodes.there.tell(drain("a", PATIENCE)).await;
    assert_eq!(nodes.there.next().await, drained("a", 0));
    publish(&mut nodes.here, stage::about("raw", port)).await;
    publish(&mut nodes.there, far("raw", "here", nodes.gate)).await;
    let mut client = TcpStream::connect(("127.0.0.1", published_port)).await.expect("in");
    let mut greeting = [0; 5];
    timeout(PATIENCE, client.read_exact(&mut greeting)).await.expect("in time").expect("greeted");
    client.write_all(b"bye").await.expect("written");
    client.shutdown().await.expect("ended");
    let mut rest = String::new();
    timeout(PATIENCE, client.read_to_string(&mut rest)).await.expect("in time").expect("answered");
    assert_eq!((&greeting, rest.as_str()), (b"hello", "BYE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_while_the_ingresses_of_both_nodes_are_replaced() {
    let mut nodes = Nodes::new().await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    nodes.publish(&one).await;
    nodes.publish(&two).await;
    let load = Load::start(nodes.there.port);
    load.goes_on().await;
    let mut socket = echo(nodes.there.port).await;
    let mut old = Vec::new();
    for _ in 0..2 {
        old.push(nodes.here.upgrade(2, HOUR).await);
        load.goes_on().await;
        echoes(&mut socket).await;
        old.push(nodes.there.upgrade(2, HOUR).await);
        load.goes_on().await;
        echoes(&mut socket).await;
    }
    drop(socket);
    // Busy or not, what the processes before have is given up by and by.
    for process in old {
        let ended = timeout(2 * PATIENCE, process).await.expect("it ends").expect("no panic");
        ended.expect("in order");
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_of_the_same_swarm_reach_each_other_and_each_only_as_itself() {
    let mut nodes = Nodes::new().await;
    let backend = Backend::start("a").await;
    nodes.here.publish(&backend).await;
    let endpoint = far("a", "elsewhere", nodes.gate);
    nodes.there.tell(Command::Publish { endpoint }).await;
    let mut stranger = Stage::on(Some(Swarm::new().node("there"))).await;
    let endpoint = far("a", "here", nodes.gate);
    stranger.tell(Command::Publish { endpoint }).await;
    for stage in [&mut nodes.there, &mut stranger] {
        let answer = stage::get(stage.port, "/").await;
        assert!(answer.contains(" 503 "), "{answer}");
        assert!(stage.is_quiet());
    }
    assert_eq!(nodes.here.shown("a").await["relayed"], 0);
    // New certificates are taken as they come.
    nodes.swarm.certificates("here");
    nodes.swarm.certificates("there");
    publish(&mut nodes.there, far("a", "here", nodes.gate)).await;
    assert!(stage::get(nodes.there.port, "/").await.ends_with('a'));
}
