//! Bytes both ways between another node and this one. Towards the other node they go in pieces, so
//! that the connection outlives what it carries.
//!
//! ```text
//! piece   its length (two bytes, the higher first), then its bytes
//! end     a length of 0: nothing more comes in this direction
//! ```

use std::pin::pin;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    time::{Duration, sleep},
};

const LENGTH: usize = 2;
/// With its length it fills one TLS record.
const PIECE: usize = 16 * 1024 - LENGTH;
/// How long the far side may take to end, when all that was wanted has come.
const LINGER: Duration = Duration::from_secs(1);

/// How whoever is behind `near` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Everything was said on both sides; what may still come is only an end.
    Done,
    Gone,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides said all they had to say: the connection is free for the next.
    Whole,
    /// As [`Self::Whole`] for `near`; the other node does not know, and the connection is of no more
    /// use.
    Spent,
    /// One side broke off: the other must not take what it has for all.
    Broken,
    /// Nobody is there for what would still come from `far`.
    Left,
}

/// Why the direction towards the other node ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Source,
    /// The other direction may still bring an answer.
    Sink,
}

/// Carries bytes until both sides have ended, or one breaks, or whoever is behind `near` has left.
pub(super) async fn carry(
    far: &mut (impl AsyncRead + AsyncWrite + Unpin),
    near: &mut TcpStream,
    left: impl Future<Output = Leave>,
) -> Ended {
    let (from_far, to_far) = split(far);
    let (from_near, to_near) = near.split();
    let mut incoming = pin!(unpack(from_far, to_near));
    let mut outgoing = pin!(pack(from_near, to_far));
    let mut left = pin!(async {
        if left.await == Leave::Done {
            sleep(LINGER).await;
        }
    });
    let mut is_in = false;
    let mut out = None;
    while !(is_in && out.is_some()) {
        tokio::select! {
            biased;
            () = &mut left, if !is_in => return Ended::Left,
            ended = &mut incoming, if !is_in => match ended {
                Ok(()) => is_in = true,
                Err(_) => return Ended::Broken,
            },
            ended = &mut outgoing, if out.is_none() => match ended {
                Err(Broken::Source) => return Ended::Broken,
                ended => out = Some(ended),
            },
        }
    }
    if out == Some(Ok(())) { Ended::Whole } else { Ended::Spent }
}

/// Until the source ends, which the other node is told. Nothing is read before all that came earlier
/// is on its way, so that a break loses none of it.
async fn pack(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Broken> {
    let mut piece = vec![0; LENGTH + PIECE];
    loop {
        let count = from.read(&mut piece[LENGTH..]).await.map_err(|_| Broken::Source)?;
        let length = u16::try_from(count).map_err(|_| Broken::Source)?;
        piece[..LENGTH].copy_from_slice(&length.to_be_bytes());
        to.write_all(&piece[..LENGTH + count]).await.map_err(|_| Broken::Sink)?;
        to.flush().await.map_err(|_| Broken::Sink)?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// Until the other node says that this is all; not a byte after that is taken. What nobody takes any
/// more is left out.
async fn unpack(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut is_heard = true;
    loop {
        let mut rest = usize::from(from.read_u16().await?);
        if rest == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        while rest > 0 {
            let room = rest.min(PIECE);
            let count = from.read(&mut buffer[..room]).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            is_heard = is_heard && to.write_all(&buffer[..count]).await.is_ok();
            rest -= count;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use proptest::prelude::*;
    use tokio::{
        io::{DuplexStream, duplex},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let one = TcpStream::connect(address).await.expect("in");
        (one, listener.accept().await.expect("there").0)
    }

    /// Both ends of what carries for a client; `far` is what the other node would say and hear.
    async fn carried(
        left: impl Future<Output = Leave> + Send + 'static,
    ) -> (TcpStream, DuplexStream, tokio::task::JoinHandle<(Ended, DuplexStream)>) {
        let (client, mut near) = pair().await;
        let (mut ours, theirs) = duplex(1 << 20);
        let carrying = tokio::spawn(async move {
            let ended = carry(&mut ours, &mut near, left).await;
            (ended, ours)
        });
        (client, theirs, carrying)
    }

    #[tokio::test]
    async fn when_both_sides_have_ended_the_connection_is_free_for_the_next() {
        let (mut client, mut far, carrying) = carried(pending()).await;
        client.write_all(b"asked").await.expect("written");
        client.shutdown().await.expect("ended");
        far.write_all(b"\0\x02an\0\x06swered\0\0next").await.expect("written");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("whole");
        let (ended, mut rest) = carrying.await.expect("no panic");
        assert_eq!((ended, answer.as_str()), (Ended::Whole, "answered"));
        let mut next = [0; 4];
        rest.read_exact(&mut next).await.expect("untouched");
        let mut heard = [0; 9];
        far.read_exact(&mut heard).await.expect("in pieces");
        assert_eq!((&next, &heard), (b"next", b"\0\x05asked\0\0"));
    }

    #[tokio::test]
    async fn an_end_without_a_word_is_a_break_wherever_it_comes() {
        for said in [&b""[..], b"\0", b"\0\x05ha", b"\0\x02ha"] {
            let (_client, mut far, carrying) = carried(pending()).await;
            far.write_all(said).await.expect("written");
            drop(far);
            assert_eq!(carrying.await.expect("no panic").0, Ended::Broken, "{said:?}");
        }
        let (client, _far, carrying) = carried(pending()).await;
        client.set_zero_linger().expect("set");
        drop(client);
        assert_eq!(carrying.await.expect("no panic").0, Ended::Broken);
    }

    #[tokio::test]
    async fn who_has_all_waits_a_moment_for_the_end_and_who_is_gone_does_not() {
        let (client, mut far, carrying) = carried(ready(Leave::Done)).await;
        drop(client);
        far.write_all(b"\0\x05extra\0\0").await.expect("written");
        assert_eq!(carrying.await.expect("no panic").0, Ended::Whole);

        let (client, _far, carrying) = carried(ready(Leave::Done)).await;
        drop(client);
        assert_eq!(carrying.await.expect("no panic").0, Ended::Left);

        let (_client, mut far, carrying) = carried(ready(Leave::Gone)).await;
        far.write_all(b"\0\0").await.expect("written");
        assert_eq!(carrying.await.expect("no panic").0, Ended::Left);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_as_it_was(content: Vec<Vec<u8>>) {
            let whole = content.concat().repeat(300);
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("built");
            let (packed, unpacked) = runtime.block_on(async {
                let (mut packed, mut unpacked) = (Vec::new(), Vec::new());
                pack(&whole[..], &mut packed).await.expect("packed");
                unpack(&packed[..], &mut unpacked).await.expect("unpacked");
                (packed, unpacked)
            });
            prop_assert_eq!(unpacked, whole);
            prop_assert!(packed.ends_with(&[0, 0]));
        }
    }
}
