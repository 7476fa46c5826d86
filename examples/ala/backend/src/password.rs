//! Password hashes: PBKDF2-HMAC-SHA256, kept as `pbkdf2-sha256$<rounds>$<salt>$<hash>`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

const ROUNDS: u32 = 100_000;

pub fn hash(password: &str) -> String {
    let mut salt = [0_u8; 16];
    // Without a source of randomness nothing about this service is safe.
    getrandom::fill(&mut salt).expect("the system has a source of randomness");
    let hash = derive(password, &salt, ROUNDS);
    format!("pbkdf2-sha256${ROUNDS}${}${}", BASE64.encode(salt), BASE64.encode(hash))
}

pub fn verify(password: &str, kept: &str) -> bool {
    let mut parts = kept.split('$');
    let (Some("pbkdf2-sha256"), Some(rounds), Some(salt), Some(hash)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(rounds), Ok(salt), Ok(hash)) =
        (rounds.parse(), BASE64.decode(salt), BASE64.decode(hash))
    else {
        return false;
    };
    let derived = derive(password, &salt, rounds);
    hash.len() == derived.len() && derived.iter().zip(&hash).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

fn derive(password: &str, salt: &[u8], rounds: u32) -> [u8; 32] {
    let mut out = [0_u8; 32];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), salt, rounds, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_against_its_own_hash_only() {
        let kept = hash("correct horse");
        assert!(verify("correct horse", &kept));
        assert!(!verify("correct cow", &kept));
        assert!(!verify("correct horse", "pbkdf2-sha256$x$y"));
        assert_ne!(kept, hash("correct horse"), "every hash has a salt of its own");
    }
}
