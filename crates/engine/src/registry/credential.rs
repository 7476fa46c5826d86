//! Who we are to a registry: what the docker client sends in `X-Registry-Auth`. Never shown.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer};

/// With or without padding, as clients differ.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
/// Identity tokens have some kilobytes.
const LIMIT: usize = 64 << 10;

/// A way to log in; empty when there is none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Credential {
    #[serde(deserialize_with = "text")]
    pub(super) username: String,
    #[serde(deserialize_with = "text")]
    pub(super) password: String,
    /// `base64(username:password)`, of older clients.
    #[serde(deserialize_with = "text")]
    auth: String,
    /// For the token service, in place of the password.
    #[serde(alias = "identitytoken", deserialize_with = "text")]
    pub(super) identity_token: String,
    /// For the registry itself.
    #[serde(alias = "registrytoken", deserialize_with = "text")]
    pub(super) registry_token: String,
    #[serde(alias = "serveraddress", deserialize_with = "text")]
    pub(super) server_address: String,
}

/// Some clients send `null` for what they do not have.
fn text<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

impl Credential {
    /// Reads the header's value. The error never repeats it.
    pub fn decode(header: &str) -> Result<Self, String> {
        let header = header.trim();
        if header.is_empty() {
            return Ok(Self::default());
        }
        if header.len() > LIMIT {
            return Err("X-Registry-Auth is too long".to_owned());
        }
        let bytes = URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header));
        let bytes = bytes.map_err(|_| "X-Registry-Auth is not base64".to_owned())?;
        Self::read(&bytes).ok_or_else(|| "X-Registry-Auth holds no JSON".to_owned())
    }

    /// Reads the JSON itself, as `POST /auth` has it.
    pub fn read(json: &[u8]) -> Option<Self> {
        let read: Option<Self> = serde_json::from_slice(json).ok()?;
        let mut read = read.unwrap_or_default();
        if read.username.is_empty()
            && let Ok(pair) = STANDARD.decode(&read.auth)
            && let Ok(pair) = String::from_utf8(pair)
            && let Some((username, password)) = pair.split_once(':')
        {
            (read.username, read.password) = (username.to_owned(), password.to_owned());
        }
        Some(read)
    }

    pub(super) fn has_password(&self) -> bool {
        !self.username.is_empty() && !self.password.is_empty()
    }

    /// The value of an `Authorization` header.
    pub(super) fn basic(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password);
        format!("Basic {}", STANDARD.encode(pair))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_read_and_never_shown() {
        let json = br#"{"username":"u","password":"secret-word","serveraddress":"r.example"}"#;
        for header in [URL_SAFE.encode(json), STANDARD.encode(json).replace('=', "")] {
            let read = Credential::decode(&header).expect("read");
            assert_eq!((read.username.as_str(), read.has_password()), ("u", true));
            assert!(!format!("{read:?}").contains("secret"));
        }
        let old = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("u:p:q"));
        assert_eq!(Credential::read(old.as_bytes()).expect("read").password, "p:q");
        let nulls = br#"{"username":"u","password":"p","auth":null,"identitytoken":null}"#;
        assert!(Credential::read(nulls).is_some_and(|read| read.has_password()));
        for nothing in ["", "e30=", "bnVsbA=="] {
            assert_eq!(Credential::decode(nothing), Ok(Credential::default()));
        }
        let error = Credential::decode("c2VjcmV0LXdvcmQ").expect_err("no JSON");
        assert!(!error.contains("secret") && !error.contains("c2Vj"), "{error}");
    }
}
