//! One request over one connection, never sent twice.
//!
//! A kept connection that the server closed while it was idle is noticed before anything is written
//! (by a peek at the socket) and replaced, as any HTTP client does. From the first byte written on,
//! every error is the request's own.

use std::collections::VecDeque;
use std::net::TcpStream as Peek;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::outcome::Cause;
use crate::plan::Target;
use crate::schedule::Connection;

const LARGEST_BODY: usize = 4 << 20;

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A target and the connections kept alive to it.
pub struct Client {
    target: Target,
    most: usize,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    idle: VecDeque<Line>,
    /// Kept connections in use.
    busy: usize,
}

/// An open connection.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// A second handle on the socket of a kept connection.
    peek: Option<Peek>,
}

impl Client {
    /// `most` is how many connections are kept alive; while there are fewer, more are opened.
    pub fn new(target: Target, most: usize) -> Client {
        Client { target, most, pool: Mutex::default() }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        connection: Connection,
    ) -> Result<Answer, Cause> {
        match connection {
            Connection::Fresh => {
                let mut line = open(&self.target, Connection::Fresh).await?;
                line.ready().await.map_err(|error| Cause::Connect(deepest(&error)))?;
                match line.sender.try_send_request(request).await {
                    Ok(response) => collect(response).await,
                    Err(mut error) => Err(match error.take_message() {
                        Some(_) => Cause::Connect(deepest(error.error())),
                        None => Cause::Broken(deepest(error.error())),
                    }),
                }
            }
            Connection::Kept => self.send_kept(request).await,
        }
    }

    async fn send_kept(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, Cause> {
        let _busy = Busy::new(&self.pool);
        loop {
            let (mut line, is_new) = match self.take() {
                Some(line) => (line, false),
                None => (open(&self.target, Connection::Kept).await?, true),
            };
            if line.ready().await.is_err() || !line.is_alive() {
                if is_new {
                    return Err(Cause::Connect("closed before anything was written".to_owned()));
                }
                continue;
            }
            match line.sender.try_send_request(request).await {
                Ok(response) => {
                    let closes = says_close(response.headers());
                    let answer = collect(response).await?;
                    if !closes {
                        self.give_back(line);
                    }
                    return Ok(answer);
                }
                // The request comes back only when nothing of it was written.
                Err(mut error) => match error.take_message() {
                    Some(_) if is_new => return Err(Cause::Connect(deepest(error.error()))),
                    Some(unsent) => request = unsent,
                    None => return Err(Cause::Broken(deepest(error.error()))),
                },
            }
        }
    }

    /// The connection that was idle longest, unless there are too few connections yet.
    fn take(&self) -> Option<Line> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.idle.len() + pool.busy > self.most { pool.idle.pop_front() } else { None }
    }

    fn give_back(&self, line: Line) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.idle.len() < self.most {
            pool.idle.push_back(line);
        }
    }
}

/// Counts a kept request in the pool while it lives, also when it is abandoned.
struct Busy<'a>(&'a Mutex<Pool>);

impl<'a> Busy<'a> {
    fn new(pool: &'a Mutex<Pool>) -> Busy<'a> {
        pool.lock().unwrap_or_else(PoisonError::into_inner).busy += 1;
        Busy(pool)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).busy -= 1;
    }
}

impl Line {
    async fn ready(&mut self) -> hyper::Result<()> {
        self.sender.ready().await
    }

    /// Whether the server has neither closed the idle connection nor sent something unasked.
    fn is_alive(&self) -> bool {
        match &self.peek {
            Some(socket) => match socket.peek(&mut [0]) {
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                Ok(_) => false,
            },
            None => true,
        }
    }
}

async fn open(target: &Target, connection: Connection) -> Result<Line, Cause> {
    let failed = |error: std::io::Error| Cause::Connect(error.to_string());
    let stream = TcpStream::connect(target.address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let (stream, peek) = match connection {
        Connection::Fresh => (stream, None),
        Connection::Kept => {
            let stream = stream.into_std().map_err(failed)?;
            let peek = stream.try_clone().map_err(failed)?;
            (TcpStream::from_std(stream).map_err(failed)?, Some(peek))
        }
    };
    let (sender, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Cause::Connect(error.to_string()))?;
    // What ends the connection is told to the request on it.
    tokio::spawn(driver);
    Ok(Line { sender, peek })
}

async fn collect(response: http::Response<hyper::body::Incoming>) -> Result<Answer, Cause> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LARGEST_BODY).collect().await;
    let body = body.map_err(|error| Cause::Broken(deepest(&*error)))?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(http::header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close")))
}

/// The error with what caused it, outermost first.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
