//! Headers on their way through: hop-by-hop ones end here, the client's address is told on.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

/// Name of the header that names the task that a request was lost with.
pub const CUT: HeaderName = HeaderName::from_static("x-evenkeel-cut");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Headers of one hop (RFC 9110, section 7.6.1).
const HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The protocol that a message wants to change to, if it does.
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = headers.get_all(header::CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
    });
    wants.then(|| headers.get(header::UPGRADE).cloned()).flatten()
}

/// Takes away what belongs to one hop, and what `Connection` names.
pub fn strip_hop(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(header::CONNECTION).cloned() {
        let names = named.to_str().unwrap_or_default().to_owned();
        for name in names.split(',').map(str::trim) {
            if !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive") {
                headers.remove(name);
            }
        }
    }
    for name in &HOP {
        headers.remove(name);
    }
}

/// Tells the backend who asked, and gives the request an id unless it has a usable one.
pub fn tell_on<B>(request: &mut Request<B>, client: IpAddr, next_id: impl FnOnce() -> String) {
    let host = request.headers().get(header::HOST).cloned();
    let headers = request.headers_mut();
    let before = headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok());
    let chain = match before {
        Some(before) => format!("{before}, {client}"),
        None => client.to_string(),
    };
    set(headers, FORWARDED_FOR, &chain);
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    let node = match client {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let mut element = format!("for={node};proto=http");
    if let Some(host) = host {
        if let Ok(text) = host.to_str() {
            element.push_str(&format!(";host=\"{}\"", text.replace(['"', '\\'], "")));
        }
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    let before = headers.get(header::FORWARDED).and_then(|value| value.to_str().ok());
    let element = before.map_or(element.clone(), |before| format!("{before}, {element}"));
    set(headers, header::FORWARDED, &element);
    let is_usable = headers
        .get(&REQUEST_ID)
        .is_some_and(|id| (8..=128).contains(&id.len()) && id.to_str().is_ok());
    if !is_usable {
        set(headers, REQUEST_ID, &next_id());
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_told_on_and_hop_headers_end_here() {
        let mut request = Request::builder()
            .header("host", "ala.example")
            .header("x-forwarded-for", "10.0.0.1")
            .header("connection", "keep-alive, x-private")
            .header("x-private", "1")
            .body(())
            .expect("a request");
        strip_hop(request.headers_mut());
        tell_on(&mut request, [192, 0, 2, 7].into(), || "0123456789".to_owned());
        let get = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
        assert_eq!(get("x-forwarded-for"), Some("10.0.0.1, 192.0.2.7"));
        assert_eq!(get("forwarded"), Some("for=192.0.2.7;proto=http;host=\"ala.example\""));
        assert_eq!(get("x-request-id"), Some("0123456789"));
        assert_eq!(get("connection"), None);
        assert_eq!(get("x-private"), None);
    }
}
