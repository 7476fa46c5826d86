//! Secrets at rest: sealed with a key that lies beside the state, not in it. A copy of the state
//! file, or a backup of it, gives no secret away.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};

/// How a sealed text begins; others are from before there was a key.
const MARK: &str = "sealed:1:";
const NONCE: usize = 24;

/// Seals and opens.
pub(super) struct Seal {
    cipher: XChaCha20Poly1305,
    path: PathBuf,
    /// The key was made just now: what is sealed already was sealed with another.
    pub(super) is_new: bool,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Seal {
    /// The key of this state; made when there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (key, is_new) = match fs::read(path) {
            Ok(key) => (key, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (make(path)?, true),
            Err(error) => return Err(error),
        };
        let wrong = |_| io::Error::other("it is not a key of 32 bytes");
        let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(wrong)?;
        Ok(Self { cipher, path: path.to_owned(), is_new })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `about` belongs to the text: it opens as nothing else.
    pub(super) fn seal(&self, about: &str, text: &str) -> io::Result<String> {
        let mut nonce = [0_u8; NONCE];
        random(&mut nonce)?;
        let payload = Payload { msg: text.as_bytes(), aad: about.as_bytes() };
        let sealed = self.cipher.encrypt(&nonce.into(), payload);
        let sealed = sealed.map_err(|_| io::Error::other("it cannot be sealed"))?;
        Ok(format!("{MARK}{}", BASE64_STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// None when it was sealed with another key, or changed since.
    pub(super) fn unseal(&self, about: &str, text: String) -> Option<String> {
        let Some(sealed) = text.strip_prefix(MARK) else { return Some(text) };
        let bytes = BASE64_STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: sealed, aad: about.as_bytes() };
        let text = self.cipher.decrypt(&(*nonce).into(), payload).ok()?;
        String::from_utf8(text).ok()
    }

    pub(super) fn is_sealed(text: &str) -> bool {
        text.starts_with(MARK)
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// On disk as a whole before it is used.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0_u8; 32];
    random(&mut key)?;
    let beside = path.with_extension("key.new");
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_with_its_key_and_as_what_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one.key"), folder.path().join("other.key"));
        let seal = Seal::open(&one).expect("made");
        let sealed = seal.seal("a", "the password").expect("sealed");
        assert!(Seal::is_sealed(&sealed) && !sealed.contains("password"));
        assert_ne!(sealed, seal.seal("a", "the password").expect("sealed"));
        let again = Seal::open(&one).expect("read");
        assert!(seal.is_new && !again.is_new);
        assert_eq!(again.unseal("a", sealed.clone()).as_deref(), Some("the password"));
        assert_eq!(again.unseal("b", sealed.clone()), None);
        let mut changed = sealed.clone();
        changed.replace_range(MARK.len() + 40..MARK.len() + 41, "0");
        assert!(changed == sealed || again.unseal("a", changed).is_none());
        assert_eq!(Seal::open(&other).expect("made").unseal("a", sealed), None);
        assert_eq!(again.unseal("a", "plain".to_owned()).as_deref(), Some("plain"));
    }
}
