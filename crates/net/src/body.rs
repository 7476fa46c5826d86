//! Request bodies read whole, with a bound.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the request body is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    #[error("read the request body: {0}")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads a body to its end; larger ones are refused without being kept in memory.
pub async fn collect<B>(body: B, limit_bytes: usize) -> Result<Bytes, BodyError>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, limit_bytes).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit_bytes }),
        Err(error) => Err(BodyError::Read(error)),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_body_within_the_bound_is_whole_and_a_larger_one_is_refused() {
        let body = || Full::new(Bytes::from_static(b"four"));
        assert_eq!(collect(body(), 4).await.expect("fits"), "four");
        let refused = collect(body(), 3).await.expect_err("too large");
        assert!(matches!(refused, BodyError::TooLarge { limit_bytes: 3 }));
    }
}
