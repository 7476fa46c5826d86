//! The ingress beside nginx and haproxy: requests per second and processor time per request, in
//! one run, interleaved, medians. 64 kept-alive connections, 1 KiB answers. The peers tell the
//! backend as much of the client as the ingress does; `nginx_bare` shows what that costs nginx.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ingress::{
    control::{Client, Command as Told, Event},
    endpoint::Description,
    table::{Protocol, Route},
};
use serde_json::Value;

use super::{Metric, median, result};
use crate::{
    build,
    stage::{await_state, free_port},
};

const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
/// What the ingress tells an endpoint beside the client's address, in nginx's words.
const TOLD: &str = "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; \
    proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Request-Id $request_id; \
    proxy_set_header Forwarded \"for=$remote_addr;proto=$scheme;host=\\\"$http_host\\\"\";";

/// One proxy under test.
struct Proxy {
    name: &'static str,
    port: u16,
    child: Child,
    rates: Vec<f64>,
    cpu: Vec<f64>,
    p99: Vec<f64>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

pub fn run() -> Result<Value> {
    for tool in ["nginx", "haproxy", "wrk"] {
        let found = Command::new("which").arg(tool).stdout(Stdio::null()).status()?.success();
        ensure!(found, "{tool} is missing; `make bench` installs it");
    }
    let folder = tempfile::Builder::new().prefix("keel-b").tempdir()?;
    let keel = build::keel()?;
    let backend_port = free_port()?;
    let backend = nginx("backend", folder.path(), backend_port, None)?;
    let mut proxies = vec![
        nginx("nginx", folder.path(), free_port()?, Some((backend_port, TOLD)))?,
        nginx("nginx_bare", folder.path(), free_port()?, Some((backend_port, "")))?,
        haproxy(folder.path(), free_port()?, backend_port)?,
        own(&keel, folder.path(), free_port()?, backend_port)?,
    ];
    for round in 0..=ROUNDS {
        for proxy in &mut proxies {
            let before = cpu_seconds(proxy.child.id());
            let (requests, rate, p99) = wrk(proxy.port)?;
            let cpu = (cpu_seconds(proxy.child.id()) - before) / requests * 100_000.0;
            // The first round warms up.
            if round > 0 {
                proxy.rates.push(rate);
                proxy.cpu.push(cpu);
                proxy.p99.push(p99);
            }
        }
    }
    drop(backend);
    let figure = |proxy: &Proxy, values: &[f64]| {
        let _ = proxy;
        median(&mut values.to_vec())
    };
    let [nginx, bare, haproxy, own] = proxies.as_slice() else { unreachable!("four proxies") };
    let rate = |p: &Proxy| figure(p, &p.rates);
    let cpu = |p: &Proxy| figure(p, &p.cpu);
    let mut metrics = Vec::new();
    for peer in [nginx, bare, haproxy] {
        metrics.push(Metric {
            metric: "requests_per_second_ratio".to_owned(),
            value: (rate(own) / rate(peer) * 1000.0).round() / 1000.0,
            unit: "ratio",
            goal: (peer.name == "nginx").then(|| ">= 1".to_owned()),
            met: (peer.name == "nginx").then(|| rate(own) >= rate(peer)),
            compared_with: Some(peer.name.to_owned()),
        });
        metrics.push(Metric {
            metric: "cpu_per_request_ratio".to_owned(),
            value: (cpu(own) / cpu(peer) * 1000.0).round() / 1000.0,
            unit: "ratio",
            goal: None,
            met: None,
            compared_with: Some(peer.name.to_owned()),
        });
    }
    for proxy in [nginx, bare, haproxy, own] {
        let name = proxy.name;
        metrics.push(Metric::plain(&format!("{name}_requests_per_second"), rate(proxy), "1/s"));
        metrics.push(Metric::plain(&format!("{name}_cpu_per_100k"), cpu(proxy), "s"));
        metrics.push(Metric::plain(&format!("{name}_p99"), figure(proxy, &proxy.p99), "ms"));
    }
    result("ingress", &metrics)
}

fn proxy(name: &'static str, port: u16, child: Child) -> Result<Proxy> {
    let started = Proxy { name, port, child, rates: Vec::new(), cpu: Vec::new(), p99: Vec::new() };
    await_state(&format!("{name} answers"), Duration::from_secs(10), || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
    })?;
    Ok(started)
}

/// nginx, as the backend with a file of 1 KiB, or as a proxy with two workers.
/// Then it tells the backend what the second says.
fn nginx(name: &'static str, folder: &Path, port: u16, to: Option<(u16, &str)>) -> Result<Proxy> {
    let own = folder.join(name);
    fs::create_dir_all(own.join("root"))?;
    fs::write(own.join("root/index.html"), "x".repeat(1024))?;
    let (workers, upstream, location) = match to {
        None => (1, String::new(), format!("root {};", own.join("root").display())),
        Some((to, told)) => (
            2,
            format!("upstream b {{ server 127.0.0.1:{to}; keepalive 64; }}"),
            format!(
                "proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; {told}"
            ),
        ),
    };
    let folder = own.display();
    let text = format!(
        "daemon off; worker_processes {workers}; pid {folder}/pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 2048; }}\n\
         http {{ access_log off; keepalive_requests 100000000; {upstream}\n\
         client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n\
         uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         server {{ listen 127.0.0.1:{port} reuseport; location / {{ {location} }} }} }}\n"
    );
    let config = own.join("nginx.conf");
    fs::write(&config, text)?;
    // Workers run as another user when started by root.
    Command::new("chmod").args(["-R", "a+rX"]).arg(own.parent().unwrap_or(&own)).status()?;
    let child = Command::new("nginx").arg("-c").arg(&config).stderr(Stdio::null()).spawn()?;
    proxy(name, port, child)
}

fn haproxy(folder: &Path, port: u16, to: u16) -> Result<Proxy> {
    let config = folder.join("haproxy.cfg");
    fs::write(
        &config,
        format!(
            "global\n  nbthread 2\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  \
             timeout client 60s\n  timeout server 60s\n  option forwardfor\n  http-reuse always\n\
             frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n  \
             http-request set-header X-Forwarded-Proto http\n  \
             http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  \
             http-request set-header X-Request-Id %[uuid()]\n  \
             http-request set-header Forwarded for=%[src];proto=http;host=\\\"%[req.hdr(host)]\\\"\n\
             backend b\n  server s 127.0.0.1:{to}\n"
        ),
    )?;
    let child = Command::new("haproxy").arg("-f").arg(&config).stderr(Stdio::null()).spawn()?;
    proxy("haproxy", port, child)
}

fn own(keel: &PathBuf, folder: &Path, port: u16, to: u16) -> Result<Proxy> {
    let state = folder.join("keel");
    fs::create_dir_all(state.join("run"))?;
    let child = Command::new(keel)
        .args(["ingress", "--publish-address", "127.0.0.1", "--state-dir"])
        .arg(&state)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("run {}", keel.display()))?;
    let socket = state.join("run/ingress.sock");
    await_state("the ingress listens", Duration::from_secs(10), || Ok(socket.exists()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, mut events) = Client::connect(&socket).await?;
        let service = "bench".to_owned();
        let route = Route {
            published_port: port,
            target_port: 80,
            protocol: Protocol::Http,
            service: service.clone(),
            address: None,
        };
        let endpoint = Description {
            task: "backend".to_owned(),
            task_name: "bench.1.backend".to_owned(),
            service,
            release: String::new(),
            addresses: vec![(80, ([127, 0, 0, 1], to).into())],
            probation_ms: 0,
            peer: None,
            probe: None,
        };
        client.send(&Told::Routes { routes: vec![route] }).await?;
        client.send(&Told::Publish { endpoint }).await?;
        loop {
            match events.recv().await.context("the ingress ended")? {
                Event::Published { .. } => return anyhow::Ok(()),
                Event::ListenFailed { reason, .. } => anyhow::bail!("listen: {reason}"),
                _ => {}
            }
        }
    })?;
    proxy("keel", port, child)
}

/// Requests, requests per second, and the 99th percentile in milliseconds.
fn wrk(port: u16) -> Result<(f64, f64, f64)> {
    let output = Command::new("wrk")
        .args(["-t2", "-c64", "--latency", &format!("-d{SECONDS}s")])
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("Non-2xx"), "wrk saw errors:\n{text}");
    let field = |start: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(start));
        line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned)
    };
    let rate: f64 = field("Requests/sec:").context("a rate")?.parse()?;
    let p99 = field("99%").context("a percentile")?;
    let digits = p99.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &p99[digits.len()..] {
        "us" => 0.001,
        "s" => 1000.0,
        _ => 1.0,
    };
    Ok((rate * f64::from(SECONDS), rate, digits.parse::<f64>()? * unit))
}

/// Processor time of a process and its children.
fn cpu_seconds(root: u32) -> f64 {
    let mut total = 0.0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let pid = stat.split(' ').next().and_then(|pid| pid.parse::<u32>().ok());
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let is_child = fields.get(1).and_then(|f| f.parse::<u32>().ok()) == Some(root);
        if pid == Some(root) || is_child {
            total += (number(11) + number(12)) / 100.0;
        }
    }
    total
}
