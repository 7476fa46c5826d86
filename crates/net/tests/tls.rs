//! Mutual TLS: who gets through, who does not, and how certificates change under open connections.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use net::{Accept, TcpOptions, TlsError, TlsFiles, TlsListener, tcp_listener, tls::Connector};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority of a test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Three files in a folder: this authority, and a certificate that it vouches for.
    fn write(&self, folder: &Path, name: &str) -> TlsFiles {
        let path = |kind: &str| -> PathBuf { folder.join(format!("{name}-{kind}.pem")) };
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("names");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        let files = TlsFiles { ca: path("ca"), cert: path("cert"), key: path("key") };
        fs::write(&files.ca, self.0.pem()).expect("written");
        fs::write(&files.cert, cert.pem()).expect("written");
        fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }
}

fn listen(files: TlsFiles) -> TlsListener {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = tcp_listener(any, TcpOptions::default()).expect("a port");
    TlsListener::new(listener, files).expect("usable files")
}

/// Answers each connection with one line.
fn echo(listener: TlsListener) -> SocketAddr {
    let address = listener.local_addr();
    tokio::spawn(async move {
        while let Ok(mut stream) = listener.accept_one().await {
            tokio::spawn(async move {
                let mut byte = [0; 1];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await.expect("written");
                }
            });
        }
    });
    address
}

/// One byte there and back.
async fn says<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    let mut byte = [0; 1];
    timeout(PATIENCE, stream.read_exact(&mut byte)).await.expect("in time").map(|_| ())
}

async fn tcp(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("connects")
}

#[tokio::test]
async fn only_clients_of_the_same_authority_get_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Authority::new(), Authority::new());
    let address = echo(listen(ours.write(folder.path(), "server")));
    let friend = Connector::new(&ours.write(folder.path(), "friend")).expect("usable");
    let mut stream = friend.connect("localhost", tcp(address).await).await.expect("let in");
    says(&mut stream).await.expect("answered");
    // A stranger who trusts our authority, and has a certificate of another.
    let mut files = theirs.write(folder.path(), "stranger");
    files.ca = folder.path().join("server-ca.pem");
    let stranger = Connector::new(&files).expect("usable");
    let talked = match stranger.connect("localhost", tcp(address).await).await {
        Ok(mut stream) => says(&mut stream).await,
        Err(error) => Err(error),
    };
    talked.expect_err("turned away");
    // And nobody of ours talks to a server of another authority, or of another name.
    let address = echo(listen(theirs.write(folder.path(), "other")));
    friend.connect("localhost", tcp(address).await).await.expect_err("not our server");
    let address = echo(listen(ours.write(folder.path(), "server")));
    friend.connect("elsewhere", tcp(address).await).await.expect_err("another name");
}

#[tokio::test]
async fn a_client_without_a_certificate_or_without_tls_is_turned_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Authority::new();
    let address = echo(listen(ours.write(folder.path(), "server")));
    let ca = folder.path().join("server-ca.pem");
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(&ca).expect("readable") {
        roots.add(authority.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let nameless = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let nameless = tokio_rustls::TlsConnector::from(Arc::new(nameless));
    let talked = match nameless.connect(name, tcp(address).await).await {
        Ok(mut stream) => says(&mut stream).await,
        Err(error) => Err(error),
    };
    talked.expect_err("turned away");
    let mut plain = tcp(address).await;
    plain.write_all(b"GET /_ping HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("in time");
    assert!(read.is_err() || !answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Authority::new();
    let address = echo(listen(ours.write(folder.path(), "server")));
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(tcp(address).await);
    }
    let friend = Connector::new(&ours.write(folder.path(), "friend")).expect("usable");
    let connected = timeout(PATIENCE, friend.connect("127.0.0.1", tcp(address).await)).await;
    let mut stream = connected.expect("in time").expect("let in");
    says(&mut stream).await.expect("answered");
}

#[tokio::test]
async fn new_certificates_are_taken_and_open_connections_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Authority::new(), Authority::new());
    let address = echo(listen(old.write(folder.path(), "server")));
    let before = Connector::new(&old.write(folder.path(), "before")).expect("usable");
    let mut open = before.connect("localhost", tcp(address).await).await.expect("let in");
    says(&mut open).await.expect("answered");
    new.write(folder.path(), "server");
    let after = Connector::new(&new.write(folder.path(), "after")).expect("usable");
    let mut fresh = after.connect("localhost", tcp(address).await).await.expect("let in");
    says(&mut fresh).await.expect("answered");
    says(&mut open).await.expect("the old connection goes on");
    // Files that cannot be used change nothing.
    fs::write(folder.path().join("server-key.pem"), "not a key").expect("written");
    let mut again = after.connect("localhost", tcp(address).await).await.expect("let in");
    says(&mut again).await.expect("answered");
}

#[tokio::test]
async fn a_closed_listener_lets_in_who_is_at_the_handshake_and_then_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Authority::new();
    let listener = listen(ours.write(folder.path(), "server"));
    let address = listener.local_addr();
    let friend = Connector::new(&ours.write(folder.path(), "friend")).expect("usable");
    let early = tcp(address).await;
    // The handshake of one that came later is over: the early one's has begun.
    friend.connect("localhost", tcp(address).await).await.expect("let in");
    listener.accept_one().await.expect("the later one");
    listener.close();
    let (shaken, accepted) =
        tokio::join!(friend.connect("localhost", early), listener.accept_one());
    accepted.expect("the early one");
    says(&mut shaken.expect("let in")).await.expect_err("its other end was dropped");
    assert!(timeout(PATIENCE, listener.accept_one()).await.expect("in time").is_err());
    TcpStream::connect(address).await.expect_err("nobody listens");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = Authority::new().write(folder.path(), "server");
    let other = Authority::new().write(folder.path(), "other");
    let refused = |files: TlsFiles| {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tcp_listener(any, TcpOptions::default()).expect("a port");
        TlsListener::new(listener, files).expect_err("refused")
    };
    let missing = refused(TlsFiles { ca: folder.path().join("no.pem"), ..good.clone() });
    assert!(matches!(&missing, TlsError::Read { path, .. } if path.ends_with("no.pem")));
    let swapped = refused(TlsFiles { key: good.cert.clone(), ..good.clone() });
    assert!(matches!(swapped, TlsError::Empty { what: "private key", .. }));
    let foreign = refused(TlsFiles { key: other.key, ..good });
    assert!(matches!(foreign, TlsError::Pair { .. }), "{foreign}");
}
