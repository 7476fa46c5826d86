//! Answers that go on: pieces through a bounded channel, so that a slow reader slows its writer.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, body::Frame};
use tokio::sync::mpsc;

use super::{Body, BoxError};

/// Pieces that may wait for the reader: with hundreds of slow ones this is most of what they cost.
const QUEUE: usize = 2;

/// A sender of pieces and the answer that brings them. It ends when the sender is dropped.
pub(super) fn open(content_type: &'static str) -> (mpsc::Sender<Bytes>, Response<Body>) {
    open_of(content_type)
}

/// As [`open`], for who may fail midway: an error cuts the answer.
pub(super) fn open_fallible(
    content_type: &'static str,
) -> (mpsc::Sender<io::Result<Bytes>>, Response<Body>) {
    open_of(content_type)
}

fn open_of<P: Piece>(content_type: &'static str) -> (mpsc::Sender<P>, Response<Body>) {
    let (pieces, mut received) = mpsc::channel::<P>(QUEUE);
    let frames = stream::poll_fn(move |context| {
        received.poll_recv(context).map(|piece| Some(piece?.data().map(Frame::data)))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed());
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    (pieces, response)
}

trait Piece: Send + 'static {
    fn data(self) -> Result<Bytes, BoxError>;
}

impl Piece for Bytes {
    fn data(self) -> Result<Bytes, BoxError> {
        Ok(self)
    }
}

impl Piece for io::Result<Bytes> {
    fn data(self) -> Result<Bytes, BoxError> {
        Ok(self?)
    }
}
