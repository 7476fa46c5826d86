//! Bytes both ways between another node and this one.

use std::pin::pin;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
};

/// As much as one TLS record holds.
const BUFFER: usize = 16 * 1024;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides said all they had to say.
    Whole,
    /// One side broke off: the other must not take what it has for all.
    Broken,
    /// Nobody is there for what would still come from `far`.
    Left,
}

/// Why one direction ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Source,
    /// The other direction may still bring an answer.
    Sink,
}

/// Carries bytes until both sides have ended, or one breaks. `left` ends when whoever is behind
/// `near` is gone for good.
pub(super) async fn carry(
    far: &mut (impl AsyncRead + AsyncWrite + Unpin),
    near: &mut TcpStream,
    left: impl Future<Output = ()>,
) -> Ended {
    let (from_far, to_far) = split(far);
    let (from_near, to_near) = near.split();
    let mut incoming = pin!(one_way(from_far, to_near));
    let mut outgoing = pin!(one_way(from_near, to_far));
    let mut left = pin!(left);
    let (mut is_in, mut is_out) = (false, false);
    while !(is_in && is_out) {
        let ended = tokio::select! {
            biased;
            () = &mut left, if !is_in => return Ended::Left,
            ended = &mut incoming, if !is_in => {
                is_in = true;
                ended
            }
            ended = &mut outgoing, if !is_out => {
                is_out = true;
                ended
            }
        };
        if ended == Err(Broken::Source) {
            return Ended::Broken;
        }
    }
    Ended::Whole
}

/// Until the source ends, which the sink is told. Nothing is read before all that came earlier is
/// on its way, so that a break loses none of it.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await.map_err(|_| Broken::Source)?;
        if count == 0 {
            return to.shutdown().await.map_err(|_| Broken::Sink);
        }
        to.write_all(&buffer[..count]).await.map_err(|_| Broken::Sink)?;
        to.flush().await.map_err(|_| Broken::Sink)?;
    }
}
