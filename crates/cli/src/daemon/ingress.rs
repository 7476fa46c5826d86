//! `keel ingress`: the data plane as its own process.

use std::net::Ipv4Addr;

use tokio::sync::watch;

use super::{Signals, log_to_stderr, private_folder, process, runtime, upgrade};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::Output,
    place,
};

/// Threads for what is not a client's: control, looks at health, and connections of other nodes.
const RELAYING: usize = 2;

/// Runs until it is told to end, or has another one take over.
pub fn run(globals: &args::Globals, ingress: &args::Ingress, output: Output) -> Outcome {
    if ingress.upgrade {
        return upgrade::run(&place::state(globals)?, ingress, output);
    }
    if ingress.detached {
        process::detach();
    }
    log_to_stderr();
    let state = place::state(globals)?;
    private_folder(state.join("run"))?;
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let config = ingress::Config {
        socket: place::ingress_socket(&state),
        saved: state.join("ingress.json"),
        address: ingress.publish_address,
        workers: ingress.workers.unwrap_or_else(processors),
        takes_over: ingress.takes_over.then_some(ingress.cut_after),
        node: ingress.node_certificates.clone().map(|certificates| ingress::Node {
            address: (Ipv4Addr::UNSPECIFIED, follower::peer::RELAY_PORT).into(),
            certificates,
        }),
    };
    runtime(RELAYING)?.block_on(async {
        let mut signals = Signals::new()?;
        process::allow_many_descriptors();
        let (shutdown, ends) = watch::channel(false);
        let running = ingress::run(config, ends);
        let mut running = std::pin::pin!(running);
        tokio::select! {
            ended = running.as_mut() => return ended.map_err(|error| failure(&error).into()),
            () = signals.next() => {}
        }
        tracing::info!("ending; open requests are finished first");
        shutdown.send_replace(true);
        tokio::select! {
            ended = running => ended.map_err(|error| failure(&error).into()),
            () = signals.next() => Ok(()),
        }
    })
}

fn failure(error: &ingress::Error) -> Failure {
    Failure::new("ingress", error.to_string())
        .hint("see who listens there with `ss -xlp`, or end it with `keel daemon --stop --all`")
}
