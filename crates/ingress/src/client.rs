//! One client's connection: request after request, until it or the ingress ends it.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use crate::{
    buffer::Buffer,
    door::Visitor,
    exchange,
    message::request::{self, Asked, Caller, Refusal},
    page::Page,
    pool::has_nothing,
    worker::Worker,
};

/// How long, and for how much, an answered client that still sends is listened to, so that the
/// answer is not lost with the bytes that nobody reads.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1024 * 1024;

/// A connection of a client.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What it sent and nobody has used yet.
    pub(crate) buffer: Buffer,
    pub(crate) visitor: Rc<Visitor>,
    caller: Caller,
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Again,
    Close,
    /// Close, but read on a little: it is still sending.
    Linger,
}

enum Next {
    /// With what the endpoint gets of its head.
    Request(Asked, Vec<u8>),
    Refused(Refusal),
    End,
}

/// Answers everything that comes over the connection.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    port: u16,
    stream: TcpStream,
    address: SocketAddr,
    visitor: Rc<Visitor>,
) {
    let buffer = Buffer::new(&worker.spare);
    let caller = Caller::new(address.ip());
    let mut client = Client { stream, buffer, visitor, caller };
    loop {
        let after = match client.next_request(&worker).await {
            Next::Request(asked, mut head) => {
                let after = exchange::answer(&worker, port, &mut client, asked, &mut head).await;
                worker.spare.put_text(head);
                after
            }
            Next::Refused(refusal) => client.refuse(&worker, port, refusal).await,
            Next::End => return,
        };
        match after {
            After::Again => {}
            After::Close => return,
            After::Linger => return client.linger().await,
        }
    }
}

impl Client {
    /// Reads until the head of a request is there.
    async fn next_request(&mut self, worker: &Worker) -> Next {
        self.visitor.waits(worker.now());
        let mut looked_at = 0;
        loop {
            if !self.buffer.is_empty() && may_be_whole(self.buffer.filled(), looked_at) {
                let mut head = worker.spare.text();
                let came = self.buffer.filled();
                match request::read(came, &self.caller, || worker.next_id(), &mut head) {
                    Ok(Some(asked)) => {
                        self.buffer.consume(asked.head_len);
                        self.visitor.is_served();
                        return Next::Request(asked, head);
                    }
                    Ok(None) => worker.spare.put_text(head),
                    Err(refusal) => return Next::Refused(refusal),
                }
            }
            looked_at = self.buffer.filled().len();
            self.buffer.rest();
            match poll_fn(|context| self.poll_more(context)).await {
                Ok(Some(0) | None) | Err(_) => return Next::End,
                Ok(Some(_)) => {}
            }
            if self.buffer.filled().len() == looked_at {
                return Next::Refused(Refusal::TOO_LARGE);
            }
        }
    }

    /// Reads what comes; `None` when the connection is to end instead.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<usize>>> {
        if self.visitor.is_late() {
            return Poll::Ready(Ok(None));
        }
        match self.poll_read(context) {
            Poll::Ready(read) => return Poll::Ready(read.map(Some)),
            Poll::Pending => self.buffer.rest(),
        }
        if self.visitor.ends_now() && self.buffer.is_empty() && has_nothing(&self.stream) {
            return Poll::Ready(Ok(None));
        }
        self.visitor.wakes(context.waker());
        Poll::Pending
    }

    /// Takes memory only when there is something to read.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_read_ready(context))?;
        let mut space = ReadBuf::new(self.buffer.space());
        if space.capacity() == 0 {
            // The head has reached its limit; the caller sees that nothing was added.
            return Poll::Ready(Ok(usize::MAX));
        }
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut space))?;
        let count = space.filled().len();
        self.buffer.read(count);
        Poll::Ready(Ok(count))
    }

    async fn refuse(&mut self, worker: &Worker, port: u16, refusal: Refusal) -> After {
        exchange::count_refused(worker, port);
        let page = Page { status: refusal.status, why: refusal.why, ..Page::default() };
        match self.stream.write_all(&page.render()).await {
            Ok(()) => After::Linger,
            Err(_) => After::Close,
        }
    }

    async fn linger(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut rest = (&mut self.stream).take(LINGER_BYTES);
        let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

/// Whether the end of a head may be in there: always at first, later when an empty line has come.
fn may_be_whole(bytes: &[u8], looked_at: usize) -> bool {
    let fresh = &bytes[looked_at.saturating_sub(3).min(bytes.len())..];
    looked_at == 0
        || fresh.windows(2).any(|pair| pair == b"\n\n")
        || fresh.windows(3).any(|three| three == b"\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::may_be_whole;

    #[test]
    fn a_head_that_comes_byte_by_byte_is_read_when_its_empty_line_has_come() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let tried: Vec<usize> =
            (1..=head.len()).filter(|end| may_be_whole(&head[..*end], end - 1)).collect();
        assert_eq!(tried, [1, head.len()]);
    }
}
