//! HTTP/1.1 messages as bytes: pure, no sockets. Heads are parsed by `httparse`; what they mean for
//! a proxy, and where bodies end, is decided here.
//!
//! Reading order: [`framing`] (where a body ends), [`request`] and [`response`] (heads, read and
//! written anew), [`name`] (which headers mean something).

pub mod framing;
pub mod name;
pub mod request;
pub mod response;

#[cfg(test)]
mod tests;

/// A Content-Length: digits only, and no more than fit.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
