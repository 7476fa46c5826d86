//! Where a `Location` header leads. Pure.

use http::Uri;

/// The address that `location` means when `from` answered with it. None for what is no address of
/// a registry: another scheme, no host, a user name.
pub fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?.as_str());
    let whole = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = whole.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_user = uri.authority().is_none_or(|a| a.as_str().contains('@') || a.host().is_empty());
    (is_http && !has_user).then_some(uri)
}

/// Whether both are the same host, port and scheme: who may see a password there may see it here.
pub fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, _) => 80,
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// The same address with more in its query.
pub fn with_query(uri: &Uri, more: &[(&str, &str)]) -> Option<Uri> {
    let mut whole = uri.to_string();
    for (key, value) in more {
        whole.push(if whole.contains('?') { '&' } else { '?' });
        whole.push_str(key);
        whole.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    whole.push(char::from(byte));
                }
                other => whole.push_str(&format!("%{other:02X}")),
            }
        }
    }
    whole.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("an address")
    }

    #[test]
    fn locations_lead_where_a_browser_would_go_and_nowhere_else() {
        let from = uri("https://r.example/v2/a/blobs/x");
        let to = |location: &str| resolve(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("/y?z=1").as_deref(), Some("https://r.example/y?z=1"));
        assert_eq!(to("y").as_deref(), Some("https://r.example/v2/a/blobs/y"));
        assert_eq!(to("//c.example/y").as_deref(), Some("https://c.example/y"));
        assert_eq!(to("http://c.example/y").as_deref(), Some("http://c.example/y"));
        for nowhere in ["file:///etc/passwd", "https://u:p@c.example/", "ftp://x/", "http://", "\n"]
        {
            assert_eq!(to(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let from = uri("https://r.example/v2/");
        assert!(is_same_origin(&from, &uri("https://R.example:443/other")));
        for other in ["http://r.example/", "https://r.example:444/", "https://c.example/"] {
            assert!(!is_same_origin(&from, &uri(other)), "{other}");
        }
        let more = with_query(&uri("https://r.example/t?a=1"), &[("scope", "r:a/b:pull")]);
        assert_eq!(
            more.expect("one").to_string(),
            "https://r.example/t?a=1&scope=r%3Aa%2Fb%3Apull"
        );
    }
}
