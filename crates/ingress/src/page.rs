//! What a client sees when there is no answer from the application.

use std::time::SystemTime;

use http::StatusCode;

/// Name of the header that names the task that a request was lost with.
pub const CUT: &str = "x-evenkeel-cut";

/// A whole response of the ingress's own: a plain page, or JSON for clients that ask for it. Says
/// nothing of what is behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page<'a> {
    pub(crate) status: StatusCode,
    /// For a request that cannot be served: what is wrong with it.
    pub(crate) why: &'a str,
    pub(crate) is_json: bool,
    pub(crate) is_head: bool,
    /// The connection stays open.
    pub(crate) keeps: bool,
    pub(crate) id: &'a str,
    /// The task that had the request in its hands.
    pub(crate) cut_with: &'a str,
}

impl Page<'_> {
    pub(crate) fn render(&self) -> Vec<u8> {
        let (kind, body) = self.body();
        let status = self.status;
        let reason = status.canonical_reason().unwrap_or_default();
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut text = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\ndate: {date}\r\n",
            status.as_u16(),
            body.len(),
        );
        let mut put = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        put("x-request-id", self.id);
        put(CUT, self.cut_with);
        put("retry-after", if status == StatusCode::SERVICE_UNAVAILABLE { "2" } else { "" });
        put("connection", if self.keeps { "" } else { "close" });
        text.push_str("\r\n");
        if !self.is_head {
            text.push_str(&body);
        }
        text.into_bytes()
    }

    fn body(&self) -> (&'static str, String) {
        let (title, text) = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => (
                "Not available",
                "The application is not available now. Please try again in a moment.",
            ),
            StatusCode::BAD_GATEWAY => {
                ("No answer", "The application did not answer this request.")
            }
            _ if self.why.is_empty() => ("Not understood", "The request cannot be read."),
            _ => ("Not understood", self.why),
        };
        if self.is_json {
            let value = serde_json::json!({ "error": title, "message": text });
            return ("application/json", format!("{value}\n"));
        }
        let style =
            "font-family:system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem";
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
             <body style=\"{style}\"><h1>{title}</h1><p>{}</p></body></html>\n",
            text.replace('"', "&quot;"),
        );
        ("text/html; charset=utf-8", html)
    }
}
