//! Image names as Docker writes them: `[host[:port]/]path[:tag][@sha256:…]`. Pure.

use std::fmt;

/// The registry of names that name none.
pub const HUB: &str = "docker.io";

/// A name taken apart; what is short in it is written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `docker.io` when the name has none.
    pub host: String,
    /// `library/app` for the `app` of `docker.io`.
    pub path: String,
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

/// Why a text is no image name, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format: `{text}` {why}")]
pub struct NameError {
    text: String,
    why: &'static str,
}

impl Name {
    /// Reads a name. The rules are those of Docker's `distribution/reference`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = |why| NameError { text: shortened(text), why };
        if text.len() > 512 {
            return Err(wrong("is too long"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(wrong("has a digest that is not sha256: and 64 digits")),
            None => (text, None),
        };
        let at = rest.rfind('/').map_or(0, |at| at + 1);
        let (repository, tag) = match rest[at..].split_once(':') {
            Some((last, tag)) => (&rest[..at + last.len()], Some(tag.to_owned())),
            None => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("has a tag that is none"));
        }
        let (host, path) = match repository.split_once('/') {
            Some((first, path)) if is_host_like(first) => (first, path),
            _ => (HUB, repository),
        };
        if !is_host(host) {
            return Err(wrong("names a registry that cannot be one"));
        }
        if path.chars().any(|letter| letter.is_ascii_uppercase()) {
            return Err(wrong("must be lowercase"));
        }
        if path.is_empty() || !path.split('/').all(is_component) {
            return Err(wrong("is not words of a-z, 0-9 and single . _ - between slashes"));
        }
        let host = if host == "index.docker.io" { HUB } else { host };
        let is_official = host == HUB && !path.contains('/');
        let path = if is_official { format!("library/{path}") } else { path.to_owned() };
        if host.len() + path.len() > 254 {
            return Err(wrong("is too long"));
        }
        Ok(Self { host: host.to_owned(), path, tag, digest })
    }

    /// As Docker shows it: without `docker.io/` and `library/`, without tag and digest.
    pub fn repository(&self) -> String {
        if self.host != HUB {
            return format!("{}/{}", self.host, self.path);
        }
        // Only `library/NAME` is short for a name; what goes deeper would be read as something else.
        let short = self.path.strip_prefix("library/").filter(|name| !name.contains('/'));
        short.unwrap_or(&self.path).to_owned()
    }

    /// What a registry is asked for: the digest, else the tag, else `latest`.
    pub fn reference(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// `repository:tag`; none for a name that is pinned by a digest alone.
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (None, Some(_)) => None,
            (tag, _) => {
                Some(format!("{}:{}", self.repository(), tag.as_deref().unwrap_or("latest")))
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tagged().unwrap_or_else(|| self.repository()))?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(is_word)
        && text.len() <= 128
        && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Whether the first part of a path is a registry.
fn is_host_like(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':'])
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    port.is_none_or(is_port) && (is_address || host.split('.').all(is_label))
}

/// `[a-z0-9]+`, joined by `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    if !ends.into_iter().all(|end| end.is_some_and(|byte| is_word(*byte))) {
        return false;
    }
    let joints = text.split(|letter: char| letter.is_ascii_alphanumeric());
    joints
        .filter(|joint| !joint.is_empty())
        .all(|joint| matches!(joint, "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-'))
        && !bytes.iter().any(u8::is_ascii_uppercase)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn what_is_short_is_written_out_and_shown_short_again() {
        let short = name("app");
        assert_eq!((short.host.as_str(), short.path.as_str()), ("docker.io", "library/app"));
        assert_eq!((short.reference(), short.to_string().as_str()), ("latest", "app:latest"));
        let long = name("127.0.0.1:5000/team/app:v1");
        assert_eq!((long.host.as_str(), long.path.as_str()), ("127.0.0.1:5000", "team/app"));
        assert_eq!(long.to_string(), "127.0.0.1:5000/team/app:v1");
        assert_eq!(name("index.docker.io/a/b").to_string(), "a/b:latest");
        assert_eq!(name("localhost/app").host, "localhost");
        assert_eq!(name("[::1]:5000/app").host, "[::1]:5000");
    }

    #[test]
    fn a_digest_pins_beside_a_tag_or_alone() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let both = name(&format!("r.example/app:v1@{digest}"));
        assert_eq!(both.reference(), digest);
        assert_eq!(both.tagged().as_deref(), Some("r.example/app:v1"));
        let alone = name(&format!("app@{digest}"));
        assert_eq!((alone.tagged(), alone.to_string()), (None, format!("app@{digest}")));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "/",
            "a//b",
            "A",
            "a:b:c",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@b",
            "a:",
            "a:-x",
            "../x",
            "a b",
            "ü",
            "h:99999/x",
            "a@sha256:12",
            "a/../b",
            "-h.x/a",
            ":5/a",
            "http://a/b",
        ] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        for text in ["a", "a.b_c__d---e", "h.example:443/a/b/c:T-1_x.y"] {
            assert!(Name::parse(text).is_ok(), "{text}");
        }
    }
}
