//! A client's connection that becomes the streams of a command or of a container.
//!
//! Who asks for an upgrade gets the connection itself after a 101, input included. Who does not is
//! answered 200 with the output as the body: it has no length and no chunks, and ends with the
//! connection, as Docker's does.

use bytes::BytesMut;
use dockerapi::ApiError;
use futures_util::stream;
use http::{HeaderValue, StatusCode, Version, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, body::Frame, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, duplex};

use super::{Body, BoxError, full};

/// What may wait for a client that reads slowly.
const BUFFER: usize = 16 << 10;
const RAW: HeaderValue = HeaderValue::from_static("application/vnd.docker.raw-stream");
const FRAMES: HeaderValue = HeaderValue::from_static("application/vnd.docker.multiplexed-stream");

pub(super) trait Client: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Client for T {}

/// The engine's side of a connection that will carry streams once its answer is sent.
pub(super) enum Connection {
    Upgrade(OnUpgrade),
    Body(DuplexStream),
}

impl Connection {
    /// Nothing when the client left before.
    pub(super) async fn open(self) -> Option<Box<dyn Client>> {
        match self {
            Self::Upgrade(upgrade) => Some(Box::new(TokioIo::new(upgrade.await.ok()?))),
            Self::Body(ours) => Some(Box::new(ours)),
        }
    }
}

/// The answer and the connection that goes on after it.
pub(super) fn take_over(
    upgrade: Option<OnUpgrade>,
    has_terminal: bool,
    wants_input: bool,
) -> Result<(Response<Body>, Connection), ApiError> {
    match upgrade {
        Some(upgrade) => Ok((switched(has_terminal), Connection::Upgrade(upgrade))),
        None if wants_input => Err(ApiError::not_supported(
            "input needs `Connection: Upgrade` and `Upgrade: tcp`; ask for them, or leave out the \
             input",
        )),
        None => {
            let (ours, theirs) = duplex(BUFFER);
            Ok((streamed(theirs), Connection::Body(ours)))
        }
    }
}

/// 101, after which the connection carries streams.
fn switched(has_terminal: bool) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, if has_terminal { RAW } else { FRAMES });
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    response
}

/// 200 with the streams as its body. Docker calls them raw here, framed or not.
fn streamed(output: DuplexStream) -> Response<Body> {
    let pieces = stream::try_unfold(output, |mut output| async move {
        let mut piece = BytesMut::with_capacity(BUFFER);
        let length = output.read_buf(&mut piece).await?;
        Ok::<_, BoxError>((length > 0).then(|| (Frame::data(piece.freeze()), output)))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed());
    // In HTTP/1.0 a body without a length ends with the connection; in 1.1 it would be in chunks.
    *response.version_mut() = Version::HTTP_10;
    response.headers_mut().insert(header::CONTENT_TYPE, RAW);
    response
}
