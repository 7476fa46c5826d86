//! `keel dial-stdio`: joins standard input and output to the engine, for whoever comes over ssh.

use std::os::fd::AsFd;

use tokio::{
    fs::File,
    io::{self, AsyncRead, AsyncWrite, AsyncWriteExt},
};

use crate::{
    command::Context,
    failure::{Failure, Outcome},
};

pub async fn run(context: &Context) -> Outcome {
    let target = context.target().await?;
    let engine = target.client()?.dial().await.map_err(|error| target.failure(error))?;
    let standard = |error| Failure::new("standard-io", format!("open standard input: {error}"));
    let input = file(std::io::stdin().as_fd()).map_err(standard)?;
    let output = file(std::io::stdout().as_fd()).map_err(standard)?;
    join(engine, input, output).await.map_err(|error| {
        Failure::new("engine-connection-cut", format!("{}: {error}", target.host))
    })?;
    Ok(())
}

fn file(stream: std::os::fd::BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from_std(stream.try_clone_to_owned()?.into()))
}

/// Until the engine has said everything. An end of the input is passed on, and the rest of the
/// answer awaited; an end of the engine ends it at once.
async fn join<S: AsyncRead + AsyncWrite>(
    engine: S,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (mut answers, mut questions) = io::split(engine);
    let asking = async {
        // What cannot be written any more is the engine's end, seen below.
        let _ = io::copy(&mut input, &mut questions).await;
        let _ = questions.shutdown().await;
        std::future::pending::<()>().await;
    };
    let answering = async {
        io::copy(&mut answers, &mut output).await?;
        output.flush().await
    };
    tokio::select! {
        ended = answering => ended,
        () = asking => Ok(()),
    }
}
