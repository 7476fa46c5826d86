//! Bytes of one exchange on their way: the request's body to the endpoint, the answer to the
//! client. Memory is one buffer each way, however large a body is.

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use crate::{
    buffer::Buffer,
    door::Visitor,
    endpoint::Endpoint,
    message::{
        framing::Framing,
        request::Asked,
        response::{self, Answer, Coding},
    },
};

/// A body that comes with its head goes on with it, up to this size.
const WITH_HEAD: usize = 16 * 1024;
const SWITCHED: u16 = 101;

/// Where an exchange broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing was written to the endpoint.
    Unsent,
    /// Something was written, and no byte of an answer came.
    NoAnswer,
    /// What came is no answer.
    Garbled,
    /// The answer had begun. Hidden when the client cannot tell a close from the end.
    CutShort {
        is_hidden: bool,
    },
    /// The client's body breaks its own framing.
    BadBody,
    ClientGone,
}

/// An answer that was passed on as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    pub(crate) is_switch: bool,
    pub(crate) endpoint_keeps: bool,
    pub(crate) client_keeps: bool,
}

/// Writes the head, with what of the body is with it.
pub(crate) async fn write_head(stream: &mut TcpStream, head: &[u8]) -> Result<(), Broken> {
    let mut written = 0;
    while written < head.len() {
        match stream.write(&head[written..]).await {
            Ok(count) if count > 0 => written += count,
            _ if written == 0 => return Err(Broken::Unsent),
            _ => return Err(Broken::NoAnswer),
        }
    }
    Ok(())
}

/// Passes the rest of a request's body on.
pub(crate) async fn body(
    from_client: &mut ReadHalf<'_>,
    buffer: &mut Buffer,
    framing: &mut Framing,
    to_endpoint: &mut WriteHalf<'_>,
) -> Result<(), Broken> {
    loop {
        let count = framing.take(buffer.filled()).map_err(|_| Broken::BadBody)?;
        if count > 0 {
            let written = to_endpoint.write_all(&buffer.filled()[..count]).await;
            written.map_err(|_| Broken::NoAnswer)?;
            buffer.consume(count);
        }
        if framing.is_over() {
            return Ok(());
        }
        buffer.widen();
        match from_client.read(buffer.space()).await {
            Ok(count) if count > 0 => buffer.read(count),
            _ => return Err(Broken::ClientGone),
        }
    }
}

/// An answer that is awaited.
pub(crate) struct Answering<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) visitor: &'a Visitor,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) started: Instant,
}

impl Answering<'_> {
    /// Passes the whole answer on; `out` is room for its head.
    pub(crate) async fn pass(
        &self,
        from: &mut ReadHalf<'_>,
        buffer: &mut Buffer,
        to: &mut WriteHalf<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Passed, Broken> {
        let mut answer = self.head(from, buffer, out).await?;
        self.endpoint.counters.answered(answer.status, self.started.elapsed());
        if answer.status == SWITCHED {
            to.write_all(out).await.map_err(|_| Broken::ClientGone)?;
            return Ok(Passed { is_switch: true, endpoint_keeps: false, client_keeps: false });
        }
        loop {
            write(&mut answer, buffer, out, to).await?;
            if answer.framing.is_over() {
                break;
            }
            buffer.widen();
            match self.read(from, buffer.space()).await {
                Ok(count) if count > 0 => buffer.read(count),
                Ok(_) if answer.framing == Framing::UntilClose => {
                    if answer.coding == Coding::Chunk {
                        to.write_all(b"0\r\n\r\n").await.map_err(|_| Broken::ClientGone)?;
                    }
                    break;
                }
                _ => return Err(cut_short(&answer)),
            }
        }
        Ok(Passed {
            is_switch: false,
            // What comes after the end belongs to nobody.
            endpoint_keeps: answer.endpoint_keeps && buffer.is_empty(),
            client_keeps: answer.client_keeps,
        })
    }

    /// Reads what comes, unless the endpoint is known to be gone.
    async fn read(&self, from: &mut ReadHalf<'_>, space: &mut [u8]) -> io::Result<usize> {
        let mut reading = pin!(from.read(space));
        poll_fn(|context| {
            if self.visitor.is_cut() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let read = reading.as_mut().poll(context);
            if read.is_pending() {
                self.visitor.wakes(context.waker());
            }
            read
        })
        .await
    }

    /// Reads until the head of the answer is there; what the client gets of it is in `out`.
    async fn head(
        &self,
        from: &mut ReadHalf<'_>,
        buffer: &mut Buffer,
        out: &mut Vec<u8>,
    ) -> Result<Answer, Broken> {
        let mut is_silent = true;
        loop {
            if !buffer.is_empty() {
                let may_keep = !self.visitor.ends();
                let read = response::read(buffer.filled(), self.asked, may_keep, out);
                match read.map_err(|_| Broken::Garbled)? {
                    Some(answer) => {
                        buffer.consume(answer.head_len);
                        if answer.status >= 200 || answer.status == SWITCHED {
                            return Ok(answer);
                        }
                        continue;
                    }
                    None => out.clear(),
                }
            }
            let space = buffer.space();
            if space.is_empty() {
                return Err(Broken::Garbled);
            }
            match self.read(from, space).await {
                Ok(count) if count > 0 => {
                    is_silent = false;
                    buffer.read(count);
                }
                _ if is_silent => return Err(Broken::NoAnswer),
                _ => return Err(Broken::Garbled),
            }
        }
    }
}

/// Writes what is in the buffer and belongs to the body, after what is in `out`.
async fn write(
    answer: &mut Answer,
    buffer: &mut Buffer,
    out: &mut Vec<u8>,
    to: &mut WriteHalf<'_>,
) -> Result<(), Broken> {
    let gone = |_| Broken::ClientGone;
    let is_as_it_is = answer.coding == Coding::AsItIs;
    let cut = cut_short(answer);
    let count = if is_as_it_is {
        answer.framing.take(buffer.filled()).map_err(|_| cut)?
    } else {
        encode(answer, buffer.filled(), out).map_err(|_| cut)?
    };
    let content = if is_as_it_is { &buffer.filled()[..count] } else { &[] };
    if out.is_empty() || content.len() > WITH_HEAD {
        to.write_all(out).await.map_err(gone)?;
        to.write_all(content).await.map_err(gone)?;
    } else {
        out.extend_from_slice(content);
        to.write_all(out).await.map_err(gone)?;
    }
    out.clear();
    buffer.consume(count);
    Ok(())
}

/// Appends the content in another coding; returns how many bytes were used.
fn encode(
    answer: &mut Answer,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<usize, crate::message::framing::Malformed> {
    let mut used = 0;
    while let Some(piece) = answer.framing.next(&bytes[used..])? {
        let content = &bytes[used..used + piece.len];
        used += piece.len;
        match (piece.is_content, answer.coding) {
            (false, _) => {}
            (true, Coding::Chunk) => {
                out.extend_from_slice(format!("{:x}\r\n", content.len()).as_bytes());
                out.extend_from_slice(content);
                out.extend_from_slice(b"\r\n");
            }
            (true, Coding::AsItIs | Coding::Unchunk) => out.extend_from_slice(content),
        }
    }
    Ok(used)
}

fn cut_short(answer: &Answer) -> Broken {
    let is_hidden = answer.coding == Coding::Unchunk
        || (answer.coding == Coding::AsItIs && answer.framing == Framing::UntilClose);
    Broken::CutShort { is_hidden }
}
