//! An answer on its way: it ends when its client is gone, also while there is nothing to write.
//!
//! A client may close its writing side and go on reading, so the end of what it sends says nothing.
//! Only a connection that is closed in both directions is given up.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::{Interval, interval};

use crate::seat::Asking;

/// How soon it is noticed that a client is gone.
const LOOK: Duration = Duration::from_secs(1);

/// A client's connection, to see whether it is still there.
#[derive(Clone, Debug)]
pub(crate) struct Presence(Option<Arc<OwnedFd>>);

impl Presence {
    /// Without a descriptor to spare a client is missed only when something is written to it.
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Self {
        Self(socket.try_clone_to_owned().ok().map(Arc::new))
    }

    fn is_gone(&self) -> bool {
        let Some(connection) = &self.0 else { return false };
        let mut asked = [PollFd::new(connection, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&at_once)).is_ok()
            && asked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Until it is gone.
    pub(crate) async fn left(&self) {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            if self.is_gone() {
                return;
            }
        }
    }
}

/// The body of an answer, with whom it is for.
pub(crate) struct Answer<E> {
    content: Option<BoxBody<Bytes, E>>,
    presence: Presence,
    looks: Option<Interval>,
    _asking: Asking,
}

impl<E> Answer<E> {
    pub(crate) fn new(content: BoxBody<Bytes, E>, presence: Presence, asking: Asking) -> Self {
        Self { content: Some(content), presence, looks: None, _asking: asking }
    }
}

impl<E> Body for Answer<E> {
    type Data = Bytes;
    type Error = E;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let this = self.get_mut();
        let Some(content) = &mut this.content else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(content).poll_frame(context) {
            this.looks = None;
            return Poll::Ready(frame);
        }
        let looks = this.looks.get_or_insert_with(|| interval(LOOK));
        while looks.poll_tick(context).is_ready() {
            if this.presence.is_gone() {
                this.content = None;
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.content.as_ref().is_none_or(BoxBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.content.as_ref().map_or_else(SizeHint::default, BoxBody::size_hint)
    }
}
