//! Numbers as people read them.

use std::time::Duration;

use dockerapi::stamp;
use orchestrator::Time;

/// `2 minutes`, as Docker rounds.
pub fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0 => "less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "about a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        3600..7200 => "about an hour".to_owned(),
        7200..172_800 => format!("{hours} hours"),
        172_800..1_209_600 => format!("{} days", hours / 24),
        1_209_600..5_184_000 => format!("{} weeks", hours / 24 / 7),
        5_184_000..63_072_000 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `2 minutes ago`; what is not a time stays as it is.
pub fn ago(now: Time, then: &str) -> String {
    stamp::parse(then).map_or_else(
        || then.to_owned(),
        |then| format!("{} ago", rough(Duration::from_nanos(now.0.saturating_sub(then.0)))),
    )
}

/// `1.4 s`, `2 min 5 s`: how long something took.
pub fn took(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    format!("{} min {} s", seconds / 60, seconds % 60)
}

/// `5.56 MB`, decimal as Docker's image sizes.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = count as f64;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `1 task`, `2 tasks`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_as_docker_does() {
        let check = |seconds, text: &str| assert_eq!(rough(Duration::from_secs(seconds)), text);
        check(0, "less than a second");
        check(59, "59 seconds");
        check(60, "about a minute");
        check(150, "2 minutes");
        check(3600, "about an hour");
        check(172_799, "47 hours");
        check(172_800, "2 days");
        check(1_209_600, "2 weeks");
    }

    #[test]
    fn a_time_is_told_by_its_distance() {
        let now = stamp::parse("2026-11-23T10:00:00Z").expect("a time");
        assert_eq!(ago(now, "2026-11-23T09:58:00Z"), "2 minutes ago");
        assert_eq!(ago(now, "2026-11-23T10:00:05Z"), "less than a second ago");
        assert_eq!(ago(now, "never"), "never");
    }

    #[test]
    fn sizes_have_three_digits() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(5_560_088), "5.56 MB");
        assert_eq!(bytes(55_600_880), "55.6 MB");
        assert_eq!(bytes(999_999_999), "1.00 GB");
    }

    #[test]
    fn what_took_long_is_told_in_minutes() {
        assert_eq!(took(Duration::from_millis(1430)), "1.4 s");
        assert_eq!(took(Duration::from_secs(125)), "2 min 5 s");
    }
}
