//! `keel daemon -H`: the engine's API at one more address, byte by byte.
//!
//! A unix socket has the same owner and group as the engine's own. Over TCP only clients get
//! through that show a certificate of the authority named with `--tls-ca`: whoever may use the API
//! can do everything, so there is no listening without knowing who asks.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use net::{Accept, TcpOptions, TlsFiles, TlsListener, tcp_listener};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split},
    net::UnixStream,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

use crate::{args::Tls, failure::Failure};

/// Connections at a time; more wait.
const CONNECTIONS: usize = 256;

/// Listens on `host` for as long as the returned task lives.
pub(super) async fn listen(
    host: &str,
    tls: &Tls,
    engine: &Path,
) -> Result<JoinHandle<()>, Failure> {
    let engine = engine.to_owned();
    let failed = |error: net::ListenError| {
        Failure::new("listen", error.to_string()).hint("choose another address with -H")
    };
    if let Some(path) = host.strip_prefix("unix://") {
        if tls.tls_ca.is_some() {
            return Err(no_address());
        }
        let listener = net::shared_listener(Path::new(path)).map_err(failed)?;
        return Ok(tokio::spawn(relay(listener, engine)));
    }
    let Some(address) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("https://"))
    else {
        return Err(Failure::usage(format!("`{host}` is not an address to listen on"))
            .hint("write unix:///path or tcp://127.0.0.1:2376"));
    };
    let files = files(host, tls)?;
    let listener = tcp_listener(resolve(address).await?, TcpOptions::default()).map_err(failed)?;
    let listener = TlsListener::new(listener, files).map_err(|error| {
        Failure::new("tls-files", error.to_string())
            .hint("docs/remote-access.md says how to make these files")
    })?;
    let address = listener.local_addr();
    tracing::info!(%address, "listening for clients with a certificate");
    if let Some(key) = tls.tls_key.as_deref().filter(|key| is_for_others(key)) {
        tracing::warn!(key = %key.display(), "other users may read the private key; chmod 600 it");
    }
    Ok(tokio::spawn(relay(listener, engine)))
}

/// TLS without an address that needs it.
pub(super) fn no_address() -> Failure {
    Failure::usage("--tls-ca, --tls-cert and --tls-key are for an address over TCP")
        .hint("add -H tcp://ADDRESS:2376")
}

fn files(host: &str, tls: &Tls) -> Result<TlsFiles, Failure> {
    match tls {
        Tls { tls_ca: Some(ca), tls_cert: Some(cert), tls_key: Some(key), .. } => {
            Ok(TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
        }
        _ => Err(Failure::usage(format!(
            "-H {host} without TLS would let everybody who reaches it do everything"
        ))
        .hint("add --tls-ca, --tls-cert and --tls-key, or listen on unix:///path")),
    }
}

fn is_for_others(key: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(key).is_ok_and(|known| known.permissions().mode() & 0o077 != 0)
}

async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let unusable = |why: String| {
        Failure::usage(format!("-H tcp://{address}: {why}")).hint("write tcp://127.0.0.1:2376")
    };
    let mut found =
        tokio::net::lookup_host(address).await.map_err(|error| unusable(error.to_string()))?;
    found.next().ok_or_else(|| unusable("no such address".to_owned()))
}

async fn relay<L: Accept>(listener: L, engine: PathBuf) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this task: open connections end with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok(client) = listener.accept_one().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let engine = engine.clone();
        connections.spawn(async move {
            match UnixStream::connect(&engine).await {
                Ok(server) => converse(client, server).await,
                Err(error) => tracing::warn!(%error, "the engine's socket cannot be reached"),
            }
            drop(slot);
        });
    }
}

/// Passes bytes on until the engine has said all. A client may close its half before, and go on
/// reading.
async fn converse(client: impl AsyncRead + AsyncWrite, server: UnixStream) {
    let (mut asks, mut hears) = split(client);
    let (mut answers, mut takes) = server.into_split();
    let up = async {
        let _ = copy(&mut asks, &mut takes).await;
        let _ = takes.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let _ = copy(&mut answers, &mut hears).await;
        let _ = hears.shutdown().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
