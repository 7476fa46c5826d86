//! A stand-in for the ERP (Priority): its health and a list of customers, nothing more.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let host = std::env::var("HOST").ok().and_then(|host| host.parse().ok());
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(5900);
    let address = SocketAddr::new(host.unwrap_or(IpAddr::from([0, 0, 0, 0])), port);
    // FAIL=1: every answer is an error, as when the ERP is being maintained.
    let fails = std::env::var("FAIL").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(address).await?;
    log(&serde_json::json!({ "event": "listening", "address": address.to_string() }));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let service = service_fn(move |request| async move {
                    Ok::<_, std::convert::Infallible>(answer(&request, fails))
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

fn answer(request: &Request<Incoming>, fails: bool) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        _ if fails => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"under maintenance"}"#.into()),
        "/odata/Priority/health" => (StatusCode::OK, r#"{"status":"ok"}"#.into()),
        "/odata/Priority/customers" => (StatusCode::OK, customers()),
        _ => (StatusCode::NOT_FOUND, r#"{"error":"no such address"}"#.into()),
    };
    log(&serde_json::json!({
        "event": "request", "path": request.uri().path(), "status": status.as_u16(),
    }));
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn customers() -> String {
    let customers =
        [("C001", "Carmel Clinic"), ("C002", "Galilee Medical Centre"), ("C003", "Negev Hospital")];
    let value: Vec<_> = customers
        .iter()
        .map(|(number, name)| serde_json::json!({ "CUSTNAME": number, "CUSTDES": name }))
        .collect();
    serde_json::json!({ "value": value }).to_string()
}

fn log(line: &serde_json::Value) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
