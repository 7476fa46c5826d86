//! Times on the wire: RFC 3339 with nine digits, and back.

use jiff::Timestamp;
use orchestrator::Time;

/// `2026-11-23T09:36:34.772441153Z`.
pub fn text(time: Time) -> String {
    let nanos = i128::from(time.0);
    let stamp = Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{stamp:.9}")
}

/// The time now.
pub fn now() -> Time {
    Time(u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0))
}

/// Parses RFC 3339.
pub fn parse(text: &str) -> Option<Time> {
    let stamp: Timestamp = text.parse().ok()?;
    Some(Time(u64::try_from(stamp.as_nanosecond()).ok()?))
}

/// Parses the `since` of the logs endpoints: `<unix seconds>[.<nanos>]`.
pub fn parse_unix(text: &str) -> Option<Time> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: u64 = seconds.parse().ok()?;
    let nanos: u64 = if fraction.is_empty() {
        0
    } else {
        format!("{:0<9}", fraction.get(..fraction.len().min(9))?).parse().ok()?
    };
    Some(Time(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

/// A Go duration (`1m30s`, `500ms`), as Compose and our labels write them.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = std::time::Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = std::time::Duration::try_from_secs_f64(number * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = &rest[letters..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_comes_back_as_it_went() {
        let time = Time(1_795_426_594_772_441_153);
        assert_eq!(parse(&text(time)), Some(time));
        assert!(text(time).ends_with(".772441153Z"));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("18446744073709550000s18446744073709550000s"), None);
        assert_eq!(parse_unix("5.25"), Some(Time(5_250_000_000)));
    }
}
