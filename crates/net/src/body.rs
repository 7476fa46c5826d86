//! Request bodies read whole, with a bound.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::time::timeout;

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the request body is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    #[error("the request body did not come within {} s", .within.as_secs())]
    TooSlow { within: Duration },
    #[error("read the request body: {0}")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads a body to its end; larger ones are refused without being kept in memory, and so are those
/// that take longer than `within`.
pub async fn collect<B>(body: B, limit_bytes: usize, within: Duration) -> Result<Bytes, BodyError>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = timeout(within, Limited::new(body, limit_bytes).collect()).await;
    match whole.map_err(|_| BodyError::TooSlow { within })? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit_bytes }),
        Err(error) => Err(BodyError::Read(error)),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_body_within_the_bound_is_whole_and_a_larger_one_is_refused() {
        let body = || Full::new(Bytes::from_static(b"four"));
        assert_eq!(collect(body(), 4, SOON).await.expect("fits"), "four");
        let refused = collect(body(), 3, SOON).await.expect_err("too large");
        assert!(matches!(refused, BodyError::TooLarge { limit_bytes: 3 }));
    }
}
