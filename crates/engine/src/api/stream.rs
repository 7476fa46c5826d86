//! Answers that go on: pieces through a bounded channel, so that a slow reader slows its writer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use hyper::{Response, body::Frame};
use tokio::sync::mpsc;

use super::{Body, BoxError};

/// Pieces that may wait for the reader: with hundreds of slow ones this is most of what they cost.
const QUEUE: usize = 2;

/// A sender of pieces and the answer that brings them. It ends when the sender is dropped.
pub(super) fn open(content_type: &'static str) -> (mpsc::Sender<Bytes>, Response<Body>) {
    let (pieces, received) = mpsc::channel(QUEUE);
    let mut response = Response::new(Pieces(received).boxed());
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    (pieces, response)
}

struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
