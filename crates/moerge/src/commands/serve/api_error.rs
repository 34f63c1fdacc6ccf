//! Errors as OpenAI's API tells them: `{"error": {"message", "type", "param", "code"}}`.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// Seconds after which a client that was turned away may ask again: what OpenAI's clients heed.
const RETRY_AFTER: &str = "5";

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    /// The field of the request that it is about.
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl ApiError {
    /// An error with this status and, for programs, this code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: Some(code) }
    }

    /// The request is malformed or unsupported.
    pub fn request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into(), param: None, code: None }
    }

    /// Field `param` of the request is malformed or unsupported.
    pub fn field(param: &'static str, problem: &str) -> Self {
        Self { param: Some(param), ..Self::request(format!("`{param}`: {problem}")) }
    }

    /// The text is too long for the model.
    pub fn too_long(tokens: usize, context: usize) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "context_length_exceeded",
            format!("the text has {tokens} tokens, and this server's context is {context}"),
        )
    }

    /// The JSON that is sent, in a stream too.
    pub fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }
}

/// What the library refuses is about the request; that the machine refuses something is not the client's fault.
impl ApiError {
    /// The server's own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }
}

impl From<moerge_core::Error> for ApiError {
    fn from(error: moerge_core::Error) -> Self {
        match error.kind() {
            moerge_core::ErrorKind::Input => Self::request(error.to_string()),
            moerge_core::ErrorKind::Io => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "io_error", error.to_string()),
            moerge_core::ErrorKind::Interrupted => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the server is being stopped")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.json().to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
