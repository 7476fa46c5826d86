//! What a client sees when there is no answer from the application.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// A plain page, or JSON for clients that ask for it. Says nothing of what is behind.
pub(crate) fn page(status: StatusCode, asked: &HeaderMap) -> Response<Bytes> {
    let (title, text) = match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            ("Not available", "The application is not available now. Please try again in a moment.")
        }
        _ => ("No answer", "The application did not answer this request."),
    };
    let wants_json = asked
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("json")));
    let (kind, body) = if wants_json {
        ("application/json", format!("{{\"error\":\"{title}\",\"message\":\"{text}\"}}\n"))
    } else {
        let style =
            "font-family:system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem";
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
             <body style=\"{style}\"><h1>{title}</h1><p>{text}</p></body></html>\n"
        );
        ("text/html; charset=utf-8", html)
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}
