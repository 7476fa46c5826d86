//! One shot fired: the request of its kind, and what counts as the right answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::entry::Entries;
use crate::ledger::{Id, Ledger, Said};
use crate::outcome::{Cause, Outcome};
use crate::plan::Plan;
use crate::schedule::{Kind, Shot};

/// With this header on a 502 the proxy names the task whose death cut the request.
const CUT_HEADER: &str = "x-evenkeel-cut";

/// What all shots share.
pub struct Range {
    pub api: Entries,
    pub frontend: Entries,
    pub token: String,
    pub ledger: Ledger,
    /// Of this run; part of every request id.
    pub run: String,
    /// The assets the last page named.
    assets: Mutex<Vec<String>>,
    slow: Duration,
    timeout: Duration,
}

/// What is known when the shot is over.
pub struct Hit {
    pub kind: Kind,
    pub outcome: Outcome,
    pub request_id: String,
    pub entry: String,
    pub instance: Option<String>,
    pub version: Option<String>,
}

/// The right answer to a request.
enum Expected {
    Health,
    Page,
    Asset,
    List,
    Treatment(Id),
    Created(Id),
    Slept(String),
}

impl Range {
    pub fn new(plan: &Plan, token: String, run: String) -> Range {
        Range {
            api: Entries::new(&plan.api, plan.clients, &plan.left),
            frontend: Entries::new(&plan.frontend, plan.clients, &plan.left),
            token,
            ledger: Ledger::default(),
            run,
            assets: Mutex::default(),
            slow: plan.slow,
            timeout: plan.timeout,
        }
    }

    /// Sends the one request and judges the answer.
    pub async fn fire(&self, shot: Shot) -> Hit {
        let kind = self.substitute(shot.kind);
        let request_id = format!("{}-{}", self.run, shot.number);
        let (instance, version) = (None, None);
        let Some(client) = self.client(kind, shot.number) else {
            let (outcome, entry) = (Outcome::Failed(Cause::Unsent), String::new());
            return Hit { kind, outcome, request_id, entry, instance, version };
        };
        let entry = client.target().authority.clone();
        let (request, expected) = self.request(kind, shot.number, &request_id, client);
        let sent = tokio::time::timeout(self.timeout, client.send(request, shot.connection)).await;
        let answer = sent.unwrap_or(Err(Cause::Timeout));
        let outcome = match &answer {
            Err(cause) => Outcome::Failed(cause.clone()),
            Ok(answer) => judge(answer, &expected),
        };
        if let Expected::Created(id) = expected {
            self.ledger.note(id, said(&outcome));
        }
        let header = |name| answer.as_ref().ok().and_then(|a| a.header(name)).map(str::to_owned);
        if let (Kind::Page, Outcome::Ok, Ok(answer)) = (kind, &outcome, &answer) {
            *self.assets.lock().unwrap_or_else(PoisonError::into_inner) = assets(&answer.body);
        }
        let instance = header("x-instance");
        let version = header("x-app-version");
        // A proxy may have given the request an id of its own; that one is in its log.
        let request_id = header("x-request-id").unwrap_or(request_id);
        Hit { kind, outcome, request_id, entry, instance, version }
    }

    fn client(&self, kind: Kind, number: u64) -> Option<&Client> {
        match kind {
            Kind::Page | Kind::Asset => {
                self.frontend.client(number).or_else(|| self.api.client(number))
            }
            _ => self.api.client(number),
        }
    }

    /// Until there is something to read or an asset to ask for, another kind takes the place.
    fn substitute(&self, kind: Kind) -> Kind {
        match kind {
            Kind::Read if self.ledger.last_acknowledged().is_none() => Kind::List,
            Kind::Asset if self.an_asset(0).is_none() => Kind::Page,
            kind => kind,
        }
    }

    fn an_asset(&self, number: u64) -> Option<String> {
        let assets = self.assets.lock().unwrap_or_else(PoisonError::into_inner);
        let index = number.checked_rem(assets.len() as u64)?;
        assets.get(usize::try_from(index).ok()?).cloned()
    }

    fn request(
        &self,
        kind: Kind,
        number: u64,
        request_id: &str,
        client: &Client,
    ) -> (Request<Full<Bytes>>, Expected) {
        let mut body = Bytes::new();
        let (path, expected) = match kind {
            Kind::Health => ("/api/health".to_owned(), Expected::Health),
            Kind::Page => {
                let page = if number.is_multiple_of(2) { "/" } else { "/treatments.html" };
                (page.to_owned(), Expected::Page)
            }
            Kind::Asset => (self.an_asset(number).unwrap_or_default(), Expected::Asset),
            Kind::List => ("/api/treatments?limit=20".to_owned(), Expected::List),
            Kind::Read => {
                let id = self.ledger.last_acknowledged().unwrap_or_default();
                (format!("/api/treatments/{id}"), Expected::Treatment(id))
            }
            Kind::Create => {
                let id = uuid();
                body = treatment(&id, number);
                ("/api/treatments".to_owned(), Expected::Created(id))
            }
            Kind::Slow => {
                let seconds = self.slow.as_secs_f64();
                let tag = request_id.to_owned();
                (format!("/api/slow?seconds={seconds}&tag={tag}"), Expected::Slept(tag))
            }
        };
        let method = if kind == Kind::Create { Method::POST } else { Method::GET };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        let mut set = |name: header::HeaderName, value: &str| {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        };
        set(header::HOST, &client.target().authority);
        set(header::HeaderName::from_static("x-request-id"), request_id);
        if matches!(kind, Kind::List | Kind::Read | Kind::Create) {
            set(header::AUTHORIZATION, &format!("Bearer {}", self.token));
        }
        if kind == Kind::Create {
            set(header::CONTENT_TYPE, "application/json");
        }
        (request, expected)
    }
}

/// Whether the answer is the right one, down to whose it is.
fn judge(answer: &Answer, expected: &Expected) -> Outcome {
    let status = answer.status.as_u16();
    if let (502, Some(task)) = (status, answer.header(CUT_HEADER)) {
        return Outcome::Cut { task: task.to_owned() };
    }
    let wanted = if matches!(expected, Expected::Created(_)) { 201 } else { 200 };
    if status != wanted {
        return Outcome::Failed(Cause::Status(status));
    }
    let json = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let right = match expected {
        Expected::Health => json()["status"] == "ok",
        Expected::Page => contains(&answer.body, b"</html>"),
        Expected::Asset => !answer.body.is_empty(),
        Expected::List => json().is_array(),
        Expected::Treatment(id) | Expected::Created(id) => json()["id"] == id.as_str(),
        Expected::Slept(tag) => json()["tag"] == tag.as_str(),
    };
    if right {
        return Outcome::Ok;
    }
    let start: String = String::from_utf8_lossy(&answer.body).chars().take(120).collect();
    Outcome::Failed(Cause::Content(format!("not the answer to this request: {start}")))
}

fn said(outcome: &Outcome) -> Said {
    match outcome {
        Outcome::Ok => Said::Acknowledged,
        Outcome::Cut { .. } => Said::Nothing,
        Outcome::Failed(cause) if cause.is_undecided() => Said::Nothing,
        Outcome::Failed(_) => Said::Refused,
    }
}

fn treatment(id: &str, number: u64) -> Bytes {
    let kind = if number.is_multiple_of(3) { "removal" } else { "insertion" };
    let treatment = serde_json::json!({
        "id": id, "patient": format!("Patient {number}"), "kind": kind, "site": "load", "seeds": 12,
    });
    Bytes::from(treatment.to_string())
}

/// A random UUID (version 4).
pub fn uuid() -> Id {
    let mut bytes = [0_u8; 16];
    // Without randomness ids repeat, which the database then reports as duplicates.
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The addresses of assets a page names, in quotes.
fn assets(page: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(page);
    let quoted = text.split('"').skip(1).step_by(2);
    quoted.filter(|part| part.starts_with("/assets/")).map(str::to_owned).collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assets_of_a_page_are_found() {
        let page = br#"<link href="/assets/style-1.css"><script src="/config.js"></script>
            <script src="/assets/Login-2.js"></script>"#;
        assert_eq!(assets(page), ["/assets/style-1.css", "/assets/Login-2.js"]);
    }

    #[test]
    fn an_answer_to_another_request_is_not_accepted() {
        let answer = |body: &'static str| Answer {
            status: http::StatusCode::CREATED,
            headers: http::HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        let expected = Expected::Created("a".to_owned());
        assert_eq!(judge(&answer(r#"{"id":"a"}"#), &expected), Outcome::Ok);
        let other = judge(&answer(r#"{"id":"b"}"#), &expected);
        assert!(matches!(other, Outcome::Failed(Cause::Content(_))));
    }

    #[test]
    fn an_unclear_answer_to_a_write_leaves_it_unacknowledged() {
        assert_eq!(said(&Outcome::Failed(Cause::Timeout)), Said::Nothing);
        assert_eq!(said(&Outcome::Failed(Cause::Status(502))), Said::Nothing);
        assert_eq!(said(&Outcome::Cut { task: "t".into() }), Said::Nothing);
        assert_eq!(said(&Outcome::Failed(Cause::Status(409))), Said::Refused);
        assert_eq!(said(&Outcome::Failed(Cause::Connect("refused".into()))), Said::Refused);
    }

    #[test]
    fn a_uuid_has_its_form() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert_ne!(id, uuid());
    }
}
