//! `/api/treatments`: create, list and read treatments.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::api::{App, Reply};
use crate::database;

const COLUMNS: &str = "id::text, patient, kind, site, seeds::text, created_by,
    to_char(created_at AT TIME ZONE 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";

const MOST_LISTED: i64 = 100;

/// A treatment as a client makes it; the client chooses the id, so that sending it twice by
/// accident is noticed.
#[derive(Deserialize)]
struct NewTreatment {
    id: String,
    patient: String,
    kind: String,
    #[serde(default)]
    site: String,
    #[serde(default)]
    seeds: u16,
}

#[derive(Serialize)]
struct Treatment {
    id: String,
    patient: String,
    kind: String,
    site: String,
    seeds: u32,
    created_by: String,
    created_at: String,
}

pub async fn create(app: &App, user: &str, request_id: &str, body: &[u8]) -> Reply {
    let treatment = match serde_json::from_slice::<NewTreatment>(body) {
        Ok(treatment) => treatment,
        Err(error) => return Reply::error(400, &format!("not a treatment: {error}")),
    };
    if let Some(refusal) = refuse(&treatment) {
        return Reply::error(400, refusal);
    }
    match insert(app, user, request_id, &treatment).await {
        Ok(Some(treatment)) => Reply::json(201, &treatment),
        Ok(None) => Reply::error(409, "a treatment with this id exists already"),
        Err(error) => Reply::unavailable(&error),
    }
}

pub async fn list(app: &App, limit: Option<&str>) -> Reply {
    let limit = limit.and_then(|l| l.parse().ok()).unwrap_or(20).clamp(1, MOST_LISTED).to_string();
    let sql = format!(
        "SELECT {COLUMNS} FROM treatments ORDER BY created_at DESC LIMIT ($1::text)::bigint"
    );
    match app.database.query(&sql, &[(&limit, Type::TEXT)]).await {
        Ok(rows) => Reply::json(200, &rows.iter().map(treatment).collect::<Vec<_>>()),
        Err(error) => Reply::unavailable(&error),
    }
}

pub async fn show(app: &App, id: &str) -> Reply {
    if !is_uuid(id) {
        return Reply::error(400, "the id must be a UUID");
    }
    let sql = format!("SELECT {COLUMNS} FROM treatments WHERE id = ($1::text)::uuid");
    match app.database.query(&sql, &[(&id, Type::TEXT)]).await {
        Ok(rows) => match rows.first() {
            Some(row) => Reply::json(200, &treatment(row)),
            None => Reply::error(404, "no treatment has this id"),
        },
        Err(error) => Reply::unavailable(&error),
    }
}

fn refuse(treatment: &NewTreatment) -> Option<&'static str> {
    if !is_uuid(&treatment.id) {
        return Some("`id` must be a UUID");
    }
    if treatment.patient.is_empty() || treatment.patient.len() > 200 {
        return Some("`patient` must have 1 to 200 characters");
    }
    if !matches!(treatment.kind.as_str(), "insertion" | "removal") {
        return Some("`kind` must be insertion or removal");
    }
    (treatment.site.len() > 200).then_some("`site` must have at most 200 characters")
}

/// Leaves a line in the audit trail, then makes the treatment; `None` when the id is taken.
async fn insert(
    app: &App,
    user: &str,
    request_id: &str,
    new: &NewTreatment,
) -> Result<Option<Treatment>, database::Error> {
    let audit = "INSERT INTO request_log (treatment_id, request_id, instance)
                 VALUES (($1::text)::uuid, $2, $3)";
    let instance = &app.settings.instance;
    app.database
        .query(audit, &[(&new.id, Type::TEXT), (&request_id, Type::TEXT), (instance, Type::TEXT)])
        .await?;
    let sql = format!(
        "INSERT INTO treatments (id, patient, kind, site, seeds, created_by)
         VALUES (($1::text)::uuid, $2, $3, $4, ($5::text)::integer, $6)
         ON CONFLICT (id) DO NOTHING RETURNING {COLUMNS}"
    );
    let rows = app
        .database
        .query(
            &sql,
            &[
                (&new.id, Type::TEXT),
                (&new.patient, Type::TEXT),
                (&new.kind, Type::TEXT),
                (&new.site, Type::TEXT),
                (&new.seeds.to_string(), Type::TEXT),
                (&user, Type::TEXT),
            ],
        )
        .await?;
    Ok(rows.first().map(treatment))
}

fn treatment(row: &Row) -> Treatment {
    Treatment {
        id: row.get(0),
        patient: row.get(1),
        kind: row.get(2),
        site: row.get(3),
        seeds: row.get::<_, &str>(4).parse().unwrap_or(0),
        created_by: row.get(5),
        created_at: row.get(6),
    }
}

/// Whether the text has the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_is_an_id() {
        assert!(is_uuid("6f1c7c5e-8a55-4b0a-9d3e-0c1d2e3f4a5b"));
        assert!(!is_uuid("6f1c7c5e8a554b0a9d3e0c1d2e3f4a5b"));
        assert!(!is_uuid("6f1c7c5e-8a55-4b0a-9d3e-0c1d2e3f4a5'"));
        assert!(!is_uuid(""));
    }
}
