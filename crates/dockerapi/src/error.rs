//! The shape of an error: a status and `{"message": …}`, with Docker's mapping of its causes.

use http::StatusCode;

/// An error as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400, for input that the API itself refuses.
    pub fn bad_parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 400, for input that swarm mode refuses.
    pub fn invalid(message: impl std::fmt::Display) -> Self {
        let message = format!("rpc error: code = InvalidArgument desc = {message}");
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn conflict(message: impl std::fmt::Display) -> Self {
        let message = format!("rpc error: code = AlreadyExists desc = {message}");
        Self::new(StatusCode::CONFLICT, message)
    }

    pub fn not_supported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The body: `{"message": …}` and a newline.
    pub fn body(&self) -> String {
        format!("{}\n", serde_json::json!({ "message": self.message }))
    }
}
