//! Access tokens: signed JSON Web Tokens that name the user.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::settings::Secret;

const LIFE_SECONDS: u64 = 8 * 3600;

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
}

pub struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
}

impl Tokens {
    pub fn new(secret: &Secret) -> Tokens {
        let secret = secret.0.as_bytes();
        Tokens {
            signing: EncodingKey::from_secret(secret),
            checking: DecodingKey::from_secret(secret),
        }
    }

    pub fn issue(&self, username: &str) -> Result<String, jsonwebtoken::errors::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = Claims { sub: username.to_owned(), iat: now, exp: now + LIFE_SECONDS };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
    }

    /// The user an `Authorization: Bearer …` header speaks for.
    pub fn user(&self, authorization: &str) -> Option<String> {
        let token = authorization.strip_prefix("Bearer ")?;
        let validation = Validation::new(Algorithm::HS256);
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.checking, &validation).ok()?;
        Some(decoded.claims.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_speaks_for_its_user_under_its_secret_only() {
        let tokens = Tokens::new(&Secret("one".into()));
        let token = format!("Bearer {}", tokens.issue("miriam").unwrap());
        assert_eq!(tokens.user(&token).as_deref(), Some("miriam"));
        assert_eq!(Tokens::new(&Secret("two".into())).user(&token), None);
        assert_eq!(tokens.user("Bearer rubbish"), None);
    }
}
