//! A few shared connections to Postgres, opened when first needed and reopened when lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};

use crate::log;
use crate::settings::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`DATABASE_URL` is not a Postgres address; expected postgres://user:password@host:port/database"
    )]
    Address,
    #[error("connect to the database: {}", cause(.0))]
    Connect(#[source] tokio_postgres::Error),
    #[error("the database did not answer within {0:?}")]
    Timeout(Duration),
    #[error("query the database: {}", cause(.0))]
    Query(#[source] tokio_postgres::Error),
}

pub type Argument<'a> = (&'a (dyn ToSql + Sync), Type);

/// Statements from many requests share a connection: the protocol pipelines them.
pub struct Database {
    config: Config,
    slots: Vec<Mutex<Option<Arc<Client>>>>,
    next: AtomicUsize,
}

impl Database {
    pub fn new(url: &Secret, connections: usize) -> Result<Database, Error> {
        let mut config: Config = url.0.parse().map_err(|_| Error::Address)?;
        config.connect_timeout(CONNECT_TIMEOUT).application_name("ala-backend");
        let slots = (0..connections).map(|_| Mutex::new(None)).collect();
        Ok(Database { config, slots, next: AtomicUsize::new(0) })
    }

    /// Runs one statement, committed when this returns.
    pub async fn query(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<Row>, Error> {
        let client = self.client().await?;
        let answer = tokio::time::timeout(QUERY_TIMEOUT, client.query_typed(sql, arguments)).await;
        answer.map_err(|_| Error::Timeout(QUERY_TIMEOUT))?.map_err(Error::Query)
    }

    /// A connection of its own, for work that must not share one.
    pub async fn connect(&self) -> Result<Client, Error> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.config.connect(NoTls)).await;
        let (client, connection) =
            connecting.map_err(|_| Error::Timeout(CONNECT_TIMEOUT))?.map_err(Error::Connect)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::warn("database", &format!("connection lost: {}", cause(&error)));
            }
        });
        Ok(client)
    }

    async fn client(&self) -> Result<Arc<Client>, Error> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let mut slot = self.slots[turn].lock().await;
        match &*slot {
            Some(client) if !client.is_closed() => Ok(client.clone()),
            _ => {
                let client = Arc::new(self.connect().await?);
                *slot = Some(client.clone());
                Ok(client)
            }
        }
    }
}

/// What Postgres itself said, when it said something.
fn cause(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => error.to_string(),
    }
}
