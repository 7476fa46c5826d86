//! Pushing: what the registry lacks of an image's blobs, then its manifest under each name.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use serde_json::json;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{interval, timeout},
};

use super::{
    Credential, Error, Registry, Teller,
    location::{is_same_origin, resolve, with_query},
    pull::blocking,
    session::{Ask, Session},
    transport::{Payload, shown},
};
use crate::image::{Export, Image, name::Name};

/// Bytes that are read from the disk at once.
const PIECE: usize = 64 << 10;
/// Times that one blob is sent.
const ATTEMPTS: u32 = 3;

impl Registry {
    /// Sends an image under one of its names.
    pub async fn push(
        &self,
        name: &Name,
        credential: &Credential,
        teller: &Teller,
    ) -> Result<(), Error> {
        let whole = self.options.patience.whole;
        let push = self.push_whole(name, credential, teller);
        timeout(whole, push).await.map_err(|_| Error::Deadline(whole))?
    }

    async fn push_whole(
        &self,
        name: &Name,
        credential: &Credential,
        teller: &Teller,
    ) -> Result<(), Error> {
        let (images, reference) = (Arc::clone(&self.images), name.to_string());
        // The files stay until the last is sent.
        let (image, export) = blocking(move || {
            let image = images.get(&reference)?;
            Ok((image, images.export(&[reference])?))
        })
        .await?;
        let refers = format!("The push refers to repository [{}/{}]", name.host, name.path);
        teller.status(refers).await;
        let session = self.session(name, credential, "push").await?;
        for layer in &image.layers {
            teller.blob(layer, "Preparing").await;
        }
        for digest in image.layers.iter().chain([&image.id]) {
            let told = if *digest == image.id { Teller::default() } else { teller.clone() };
            push_patiently(&session, &export, digest, &told).await?;
        }
        self.push_manifest(&session, name, &image, teller).await
    }

    async fn push_manifest(
        &self,
        session: &Session,
        name: &Name,
        image: &Image,
        teller: &Teller,
    ) -> Result<(), Error> {
        let (images, own) = (Arc::clone(&self.images), image.clone());
        let document = blocking(move || images.document(&own)).await?;
        let tag = name.tag.as_deref().unwrap_or("latest");
        let uri = session.uri(&format!("manifests/{tag}"))?;
        let what = format!("Put {}", shown(&uri));
        let mut ask =
            Ask::new(Method::PUT, uri).with(header::CONTENT_TYPE, document.media_type.clone());
        ask.body = Bytes::from(document.bytes.clone());
        let response = session.ask(&ask).await?;
        if response.status() != StatusCode::CREATED {
            return Err(session.answer(what, response).await);
        }
        let digest = document.digest;
        let known = format!("{}@{digest}", name.repository());
        let (images, id) = (Arc::clone(&self.images), image.id.clone());
        blocking(move || images.record_digest(&id, &known)).await?;
        let size = document.bytes.len();
        teller.status(format!("{tag}: digest: {digest} size: {size}")).await;
        let aux = json!({ "Tag": tag, "Digest": digest, "Size": size });
        teller.say(json!({ "progressDetail": {}, "aux": aux })).await;
        Ok(())
    }
}

async fn push_patiently(
    session: &Session,
    export: &Export,
    digest: &str,
    teller: &Teller,
) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match push_blob(session, export, digest, teller).await {
            Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                tokio::time::sleep(session.transport.patience.backoff * (1 << (attempt - 1))).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn push_blob(
    session: &Session,
    export: &Export,
    digest: &str,
    teller: &Teller,
) -> Result<(), Error> {
    let head = Ask::new(Method::HEAD, session.uri(&format!("blobs/{digest}"))?);
    let response = session.ask(&head).await?;
    match response.status() {
        StatusCode::OK => {
            teller.blob(digest, "Layer already exists").await;
            return Ok(());
        }
        StatusCode::NOT_FOUND => {}
        _ => return Err(session.answer(format!("Head {}", shown(&head.uri)), response).await),
    }
    let begin = Ask::new(Method::POST, session.uri("blobs/uploads/")?);
    let response = session.ask(&begin).await?;
    if response.status() != StatusCode::ACCEPTED {
        return Err(session.answer(format!("Post {}", shown(&begin.uri)), response).await);
    }
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let to = location.and_then(|location| resolve(&begin.uri, location));
    let to = to.and_then(|to| with_query(&to, &[("digest", digest)]));
    let to = to.ok_or_else(|| Error::Lies { reason: "it takes uploads nowhere".to_owned() })?;
    session.check_plain(&to)?;
    let response = upload(session, &to, &export.path(digest), digest, teller).await?;
    if response.status() != StatusCode::CREATED {
        return Err(session.answer(format!("Put {}", shown(&to)), response).await);
    }
    teller.blob(digest, "Pushed").await;
    Ok(())
}

/// Sends a file; it is given up when nothing of it moves any more.
async fn upload(
    session: &Session,
    to: &Uri,
    path: &Path,
    digest: &str,
    teller: &Teller,
) -> Result<Response<Incoming>, Error> {
    let failed =
        |source: io::Error| Error::Image(crate::image::Error::Io { path: path.to_owned(), source });
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    let sent = Arc::new(AtomicU64::new(0));
    let body: Payload = Upload { file, left: length, sent: Arc::clone(&sent) }.boxed();
    let mut request = Request::builder()
        .method(Method::PUT)
        .uri(to)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, length)
        .header(header::USER_AGENT, "evenkeel");
    if is_same_origin(&session.base, to)
        && let Some(authorization) = session.authorization().await
    {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let wrong = |error: http::Error| Error::Lies { reason: error.to_string() };
    let patience = session.transport.patience;
    let sending = session.transport.send(request.body(body).map_err(wrong)?, patience.whole);
    let mut sending = std::pin::pin!(sending);
    let mut look = interval(patience.stall);
    look.tick().await;
    let mut before = 0;
    loop {
        tokio::select! {
            answer = &mut sending => return answer,
            _ = look.tick() => {
                let now = sent.load(Ordering::Relaxed);
                if now == before {
                    let what = format!("Put {}", shown(to));
                    return Err(Error::Stalled { what, seconds: patience.stall.as_secs() });
                }
                before = now;
                teller.far(digest, "Pushing", now, length);
            }
        }
    }
}

/// A file as a request's body.
struct Upload {
    file: tokio::fs::File,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut space = vec![0_u8; PIECE];
        let mut piece = ReadBuf::new(&mut space);
        match Pin::new(&mut self.file).poll_read(context, &mut piece) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let count = piece.filled().len();
                if count == 0 {
                    let short = io::Error::other("the file became shorter");
                    return Poll::Ready(Some(Err(short)));
                }
                space.truncate(count);
                self.left = self.left.saturating_sub(count as u64);
                self.sent.fetch_add(count as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(space)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
