//! Nodes with certificates of one authority, and a cable between two ingresses that can be cut.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ingress::{Node, endpoint::Description};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::stage::about;

pub struct Swarm {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Swarm {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        Self { folder: tempfile::tempdir().expect("a folder"), authority }
    }

    /// A node with a certificate, as Docker writes it.
    pub fn node(&self, id: &str) -> Node {
        let port = {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
            free.local_addr().expect("an address").port()
        };
        Node { address: ([127, 0, 0, 1], port).into(), certificates: self.certificates(id) }
    }

    /// The folder of a node's certificates; new ones each time.
    pub fn certificates(&self, id: &str) -> PathBuf {
        let folder = self.folder.path().join(id);
        fs::create_dir_all(&folder).expect("made");
        let key = KeyPair::generate().expect("a key");
        let names = vec![id.to_owned(), "swarm-worker".to_owned()];
        let params = CertificateParams::new(names).expect("names");
        let cert = params.signed_by(&key, &self.authority).expect("signed");
        let pem = key.serialize_pem().replacen('\n', "\nkek-version: 0\n\n", 1);
        fs::write(folder.join("swarm-root-ca.crt"), self.authority.pem()).expect("written");
        fs::write(folder.join("swarm-node.crt"), cert.pem()).expect("written");
        fs::write(folder.join("swarm-node.key"), pem).expect("written");
        folder
    }
}

/// A task as other nodes know it.
pub fn far(task: &str, node: &str, gate: SocketAddr) -> Description {
    let addresses = vec![(80, gate)];
    Description { addresses, peer: Some(node.to_owned()), ..about(task, 0) }
}

/// Bytes pass until it is cut, without a word of TLS.
pub struct Cable {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    count: Arc<AtomicUsize>,
}

impl Cable {
    pub async fn to(gate: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (cut, is_cut) = watch::channel(false);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let Ok(mut other) = TcpStream::connect(gate).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut one, &mut other) => {}
                        _ = is_cut.wait_for(|is_cut| *is_cut) => {}
                    }
                });
            }
        });
        Self { address, cut, count }
    }

    /// Connections that have come through.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub fn cut(&self) {
        self.cut.send_replace(true);
    }
}
