//! Labs of one and of three nodes: what they can do, and that nothing is left of them. Needs root
//! and a Docker daemon's binaries; without them the tests say what is missing, and fail in CI.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use lab::{Error, Lab, Node, Options, until};

/// A manager may take most of a minute until it tries again to reach one that was away.
const PATIENCE: Duration = Duration::from_secs(120);
const STATUS: &str = "{{.Status.State}} {{.ManagerStatus.Reachability}}";

/// Whether there can be labs here; says why not.
fn can_run() -> bool {
    match Lab::check() {
        Ok(()) => true,
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("not run: {error}");
            false
        }
    }
}

/// The image archive with the exam's service, built once.
fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let app = conformance::build("conformance", Some("semapp")).expect("the service builds");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sem.tar");
        fs::write(&path, conformance::image::archive(&app).expect("an archive")).expect("written");
        path
    })
}

fn create(node: &Node, words: &str) {
    let words = format!("service create --detach --no-resolve-image {words}");
    node.docker(&words.split(' ').collect::<Vec<_>>()).expect("a service");
}

/// Output lines of `docker WORDS`.
fn lines(node: &Node, words: &str) -> Vec<String> {
    let said = node.docker(&words.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    said.lines().map(str::to_owned).collect()
}

fn await_running(node: &Node, service: &str, count: usize) {
    let words = format!(
        "service ps {service} --filter desired-state=running --format {{{{.CurrentState}}}}"
    );
    until(&format!("{count} tasks of {service}"), PATIENCE, || {
        let states = lines(node, &words);
        let running = states.iter().filter(|state| state.starts_with("Running")).count();
        if running == count { Ok(()) } else { Err(states.join(", ")) }
    })
    .expect("running");
}

/// `docker inspect` of the one container of a service on a node.
fn inspect(node: &Node, service: &str, format: &str) -> String {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let ids = lines(node, &format!("ps --quiet --no-trunc --filter {filter}"));
    lines(node, &format!("inspect --format {format} {}", ids.concat())).concat()
}

/// The answer to `GET /`, asked from inside this network namespace.
fn get_from(namespace: &str, address: &str) -> String {
    const ASK: &str =
        "exec 3<>/dev/tcp/$0/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
    let output = Command::new("nsenter")
        .arg(format!("--net={namespace}"))
        .args(["--", "timeout", "5", "bash", "-c", ASK, address])
        .output()
        .expect("nsenter runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn await_answer(namespace: &str, address: &str) {
    until(&format!("an answer of {address}"), PATIENCE, || {
        let said = get_from(namespace, address);
        if said.contains("v=1") { Ok(()) } else { Err(said) }
    })
    .expect("an answer");
}

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every trace a lab could leave on the machine.
fn traces(name: &str, folder: &Path) -> Vec<String> {
    let folder_text = folder.display().to_string();
    let mut found = Vec::new();
    for text in [
        said("ip", &["-o", "link"]),
        said("ip", &["netns", "list"]),
        said("iptables", &["-w", "10", "-S"]),
        said("find", &["/sys/fs/cgroup", "-maxdepth", "2", "-name", &format!("{name}-*")]),
        said("ps", &["-eo", "args"]),
        fs::read_to_string("/proc/self/mountinfo").expect("mounts"),
    ] {
        let is_trace = |line: &&str| line.contains(name) || line.contains(&folder_text);
        found.extend(text.lines().filter(is_trace).map(str::to_owned));
    }
    if folder.exists() {
        found.push(folder_text);
    }
    found
}

#[test]
fn one_node_runs_services_refuses_a_missing_image_at_once_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(&Options::nodes(1)).expect("a lab");
    let node = lab.node(0);
    lab.load_image(0, archive()).expect("the image");
    create(node, "--name lone sem:1");
    await_running(node, "lone", 1);
    let address = inspect(node, "lone", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    await_answer(&node.namespace_path().display().to_string(), &address);

    create(node, "--name missing --restart-condition none nosuch:1");
    until("the rejection", Duration::from_secs(5), || {
        let tasks = lines(node, "service ps missing --format {{.Error}}").concat();
        if tasks.contains("No such image") { Ok(()) } else { Err(tasks) }
    })
    .expect("rejected within seconds");

    let (name, folder) = (lab.name().to_owned(), lab.folder().to_owned());
    assert!(!traces(&name, &folder).is_empty(), "traces are found while it runs");
    // A daemon that crashed has orphans: its containerd, shims and containers.
    let dockerd = node.dockerd_pid().expect("a daemon").to_string();
    said("kill", &["-9", &dockerd]);
    lab.down().expect("it goes");
    assert_eq!(traces(&name, &folder), Vec::<String>::new());
}

#[test]
fn a_daemon_that_was_stopped_comes_back_with_its_services() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(&Options::nodes(1)).expect("a lab");
    let node = lab.node(0);
    let mut guest = node.run_in("sleep").arg("100").stdin(Stdio::null()).spawn().expect("a guest");
    lab.load_image(0, archive()).expect("the image");
    create(node, "--name lone sem:1");
    await_running(node, "lone", 1);
    lab.stop_daemon(0).expect("it stops");
    assert_eq!(node.dockerd_pid(), None);
    assert_eq!(guest.try_wait().expect("a state"), None, "what else runs on the node goes on");
    lab.start_daemon(0).expect("it starts");
    await_running(node, "lone", 1);
    lab.kill_node(0).expect("it dies");
    assert!(guest.wait().expect("an end").code().is_none(), "a lost node takes all with it");
    lab.start_daemon(0).expect("it starts");
    await_running(node, "lone", 1);
}

#[test]
fn three_nodes_talk_over_the_overlay_and_lost_ones_are_noticed_and_come_back() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(&Options::nodes(3)).expect("a lab");
    lab.load_image_everywhere(archive()).expect("the image");
    let first = lab.node(0);
    let made = first.docker(&["network", "create", "--driver", "overlay", "front"]);
    let network = made.expect("a network").trim().to_owned();
    create(first, "--name web --mode global --network front --endpoint-mode dnsrr sem:1");
    await_running(first, "web", 3);
    let from = inspect(lab.node(1), "web", "{{.NetworkSettings.SandboxKey}}");
    for node in lab.nodes() {
        let address = inspect(node, "web", "{{.NetworkSettings.Networks.front.IPAddress}}");
        await_answer(&from, &address);
    }

    // A manager whose cable is back is ready before the others count it for their majority again.
    let await_status = |index: usize, wanted: [&str; 2]| {
        let id = lab.node(index).id().expect("an id");
        until(&format!("node {index} {wanted:?}"), PATIENCE, || {
            let inspect = ["node", "inspect", "--format", STATUS, &id];
            let state = first.docker(&inspect).map_err(|error| error.to_string())?;
            if state.split_whitespace().eq(wanted) { Ok(()) } else { Err(state) }
        })
        .expect("the status");
    };
    // Docker takes three missed heartbeats, of 5 s each by default, for the loss of a node.
    first.docker(&["swarm", "update", "--dispatcher-heartbeat", "1s"]).expect("an update");
    lab.cut(1).expect("no cable");
    await_status(1, ["down", "unreachable"]);
    lab.join(1).expect("a cable");
    await_status(1, ["ready", "reachable"]);
    lab.kill_node(2).expect("it dies");
    await_status(2, ["down", "unreachable"]);
    lab.start_daemon(2).expect("it starts");
    await_status(2, ["ready", "reachable"]);

    lab.down().expect("it goes");
    let outside = Path::new("/var/lib/docker/network/files").join(format!("lb_{network}"));
    assert!(!outside.exists(), "what Docker writes outside of its data root is gone as well");
}

#[test]
fn a_lab_whose_creator_died_is_removed_by_the_next_one() {
    if !can_run() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("kl-crash-{}", std::process::id()));
    let mut creator = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["up".as_ref(), folder.as_os_str()])
        .stdout(Stdio::null())
        .spawn()
        .expect("lab up");
    let pid = folder.join("n0/pid");
    until("its daemon", PATIENCE, || pid.exists().then_some(()).ok_or(String::new())).expect("it");
    creator.kill().expect("killed");
    creator.wait().expect("dead");
    let left = Lab::open(&folder).expect("a leftover");
    assert!(left.is_abandoned());
    let name = left.name().to_owned();
    drop(left);
    assert!(!traces(&name, &folder).is_empty(), "it is still there");
    drop(Lab::up(&Options::nodes(1)).expect("a lab"));
    assert_eq!(traces(&name, &folder), Vec::<String>::new());
}

#[test]
fn impossible_labs_are_refused_before_anything_is_made() {
    if !can_run() {
        return;
    }
    let refusal = |options: Options| match Lab::up(&options) {
        Ok(_) => panic!("it was made"),
        Err(error) => error,
    };
    assert!(matches!(refusal(Options::nodes(0)), Error::Options { .. }));
    assert!(matches!(refusal(Options::nodes(10)), Error::Options { .. }));
    let folder = |path: &str| Options { folder: Some(path.into()), ..Options::nodes(1) };
    assert!(matches!(refusal(folder("/")), Error::Folder { .. }));
    assert!(matches!(refusal(folder("/tmp/a b")), Error::Folder { .. }));
    assert!(matches!(refusal(folder(&format!("/{}", "x".repeat(80)))), Error::Folder { .. }));
    assert!(matches!(Lab::open(Path::new("/nowhere")), Err(Error::NoSuchLab { .. })));
}
