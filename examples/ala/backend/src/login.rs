//! `POST /api/login`: a user name and password for an access token.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;

use crate::api::{App, Reply};
use crate::password;

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

#[derive(Serialize)]
struct Welcome {
    token: String,
    username: String,
}

pub async fn create(app: &App, body: &[u8]) -> Reply {
    let Ok(credentials) = serde_json::from_slice::<Credentials>(body) else {
        return Reply::error(400, "send {\"username\": …, \"password\": …} as JSON");
    };
    let sql = "SELECT password_hash FROM users WHERE username = $1";
    let rows = match app.database.query(sql, &[(&credentials.username, Type::TEXT)]).await {
        Ok(rows) => rows,
        Err(error) => return Reply::unavailable(&error),
    };
    let kept: Option<String> = rows.first().map(|row| row.get(0));
    let password = credentials.password;
    // Hashing is slow on purpose; keep it off the thread that serves requests.
    let checked = tokio::task::spawn_blocking(move || {
        kept.is_some_and(|kept| password::verify(&password, &kept))
    });
    if !checked.await.unwrap_or(false) {
        return Reply::error(401, "unknown user or wrong password");
    }
    match app.tokens.issue(&credentials.username) {
        Ok(token) => Reply::json(200, &Welcome { token, username: credentials.username }),
        Err(_) => Reply::error(500, "the token could not be signed"),
    }
}
