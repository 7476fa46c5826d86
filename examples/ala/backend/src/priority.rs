//! The ERP (Priority): is it reachable?

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const TIMEOUT: Duration = Duration::from_secs(1);
const REMEMBERED: Duration = Duration::from_secs(5);

pub struct Priority {
    /// `host:port`, when an address is configured.
    authority: Option<String>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Priority {
    pub fn new(url: Option<&str>) -> Priority {
        let authority = url.map(|url| {
            let rest = url.strip_prefix("http://").unwrap_or(url);
            let authority = rest.split('/').next().unwrap_or(rest);
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") }
        });
        Priority { authority, last: Mutex::new(None) }
    }

    /// Asks at most once in five seconds.
    pub async fn is_reachable(&self) -> bool {
        let Some(authority) = &self.authority else { return false };
        let mut last = self.last.lock().await;
        match *last {
            Some((at, reachable)) if at.elapsed() < REMEMBERED => reachable,
            _ => {
                let asked = tokio::time::timeout(TIMEOUT, ask(authority)).await;
                let reachable = matches!(asked, Ok(Ok(true)));
                *last = Some((Instant::now(), reachable));
                reachable
            }
        }
    }
}

async fn ask(authority: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!(
        "GET /odata/Priority/health HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    Ok(&head == b"HTTP/1.1 200")
}
