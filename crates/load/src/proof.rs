//! The proof: what the database says about every write that was sent.
//!
//! The application keeps treatments in `treatments` (unique ids) and one row in `request_log` for
//! every time it carried out a request to create one. The first shows what was lost, the second what
//! was sent twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

use crate::ledger::{Id, Writes};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Ids in one question.
const BATCH: usize = 5_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database's address is not one of Postgres: {0}")]
    Address(tokio_postgres::Error),
    #[error("connect to the database: {0}")]
    Connect(tokio_postgres::Error),
    #[error("ask the database: {0}")]
    Query(tokio_postgres::Error),
    #[error("the database did not answer within {TIMEOUT:?}")]
    Timeout,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged but not there.
    pub lost: Vec<Id>,
    /// There, or carried out, more than once.
    pub duplicated: Vec<Id>,
    /// Unacknowledged but there.
    pub unacknowledged_found: u64,
}

pub async fn ask(database: &str, writes: &Writes) -> Result<Verdict, Error> {
    let asking = tokio::time::timeout(TIMEOUT, question(database, writes));
    asking.await.map_err(|_| Error::Timeout)?
}

async fn question(database: &str, writes: &Writes) -> Result<Verdict, Error> {
    let config: Config = database.parse().map_err(Error::Address)?;
    let (client, connection) = config.connect(NoTls).await.map_err(Error::Connect)?;
    let driver = tokio::spawn(connection);
    let sent = [&writes.acknowledged, &writes.unacknowledged, &writes.refused];
    let sent: Vec<&Id> = sent.into_iter().flatten().collect();
    let mut there = BTreeMap::new();
    let mut executed = BTreeMap::new();
    for batch in sent.chunks(BATCH) {
        there.extend(count(&client, "treatments", "id", batch).await?);
        executed.extend(count(&client, "request_log", "treatment_id", batch).await?);
    }
    drop(client);
    let _ = driver.await;
    Ok(judge(writes, &there, &executed))
}

/// How often each id is in the column, for those that are.
async fn count(
    client: &Client,
    table: &str,
    column: &str,
    ids: &[&Id],
) -> Result<BTreeMap<Id, i64>, Error> {
    let sql = format!(
        "SELECT {column}::text, count(*) FROM {table}
         WHERE {column} = ANY (($1::text[])::uuid[]) GROUP BY 1"
    );
    let rows = client.query(&sql, &[&ids]).await.map_err(Error::Query)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn judge(writes: &Writes, there: &BTreeMap<Id, i64>, executed: &BTreeMap<Id, i64>) -> Verdict {
    let missing = |id: &&Id| !there.contains_key(*id);
    let twice = there.iter().chain(executed).filter(|(_, times)| **times > 1);
    let duplicated: BTreeSet<&Id> = twice.map(|(id, _)| id).collect();
    let found = writes.unacknowledged.iter().filter(|id| there.contains_key(*id));
    Verdict {
        lost: writes.acknowledged.iter().filter(missing).cloned().collect(),
        duplicated: duplicated.into_iter().cloned().collect(),
        unacknowledged_found: found.count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<Id> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn counts(times: &[(&str, i64)]) -> BTreeMap<Id, i64> {
        times.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect()
    }

    #[test]
    fn a_lost_a_doubled_and_an_unacknowledged_write_are_told_apart() {
        let writes = Writes {
            acknowledged: ids(&["kept", "lost", "doubled"]),
            unacknowledged: ids(&["there", "absent"]),
            refused: ids(&["conflict"]),
        };
        let there = counts(&[("kept", 1), ("doubled", 1), ("there", 1), ("conflict", 1)]);
        let executed = counts(&[("kept", 1), ("doubled", 2), ("there", 1), ("conflict", 2)]);
        let verdict = judge(&writes, &there, &executed);
        assert_eq!(verdict.lost, ids(&["lost"]));
        assert_eq!(verdict.duplicated, ids(&["conflict", "doubled"]));
        assert_eq!(verdict.unacknowledged_found, 1);
    }
}
