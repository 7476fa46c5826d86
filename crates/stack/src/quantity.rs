//! Durations, sizes and amounts as Compose writes them.

use std::time::Duration;

/// A duration as Go writes and reads it: `1h30m`, `1.5s`, `200ms`, `0`.
///
/// # Errors
/// Says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as `30s`, `1m30s` or `500ms`";
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    if trimmed.starts_with('-') {
        return Err("a duration cannot be negative".to_string());
    }
    let mut rest = trimmed.strip_prefix('+').unwrap_or(trimmed);
    if rest.is_empty() {
        return Err(EXPECTED.to_string());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        if unit.is_empty() {
            return Err(format!("{EXPECTED}: `{number}` has no unit"));
        }
        let unit_nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(format!("{EXPECTED}: `{unit}` is not a unit")),
        };
        let part = scaled(number, unit_nanos).ok_or_else(|| EXPECTED.to_string())?;
        total = total.saturating_add(part);
        rest = tail;
    }
    match i64::try_from(total) {
        Ok(nanos) => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        Err(_) => Err("the duration is longer than 292 years".to_string()),
    }
}

/// The shortest exact form with one unit: `90s`, `250ms`, `1ns`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        n if n % 1_000_000_000 == 0 => format!("{}s", n / 1_000_000_000),
        n if n % 1_000_000 == 0 => format!("{}ms", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{}us", n / 1_000),
        n => format!("{n}ns"),
    }
}

/// A size in bytes, in powers of 1024: `64M`, `1.5gb`, `512KiB`, `1048576`.
///
/// # Errors
/// Says what was expected.
pub fn bytes(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a size such as `64M`, `512kb` or `1.5g`";
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit.is_empty() || unit == "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(EXPECTED.to_string()),
    };
    let bytes = scaled(number, 1u128 << (10 * power)).ok_or_else(|| EXPECTED.to_string())?;
    u64::try_from(bytes)
        .ok()
        .filter(|b| i64::try_from(*b).is_ok())
        .ok_or_else(|| "the size is too large".into())
}

/// A number of processors in billionths: `0.5` is 500,000,000.
///
/// # Errors
/// Says what was expected.
pub fn nano_cpus(text: &str) -> Result<i64, String> {
    const EXPECTED: &str = "expected a number of processors such as `0.5` or `2`";
    let trimmed = text.trim();
    let decimals = trimmed.split_once('.').map_or(0, |(_, d)| d.len());
    if decimals > 9 {
        return Err("at most nine decimals: the unit is a billionth of a processor".to_string());
    }
    let nanos = scaled(trimmed, 1_000_000_000).ok_or_else(|| EXPECTED.to_string())?;
    i64::try_from(nanos).map_err(|_| EXPECTED.to_string())
}

/// `number` (digits with at most one point) times `unit`, rounded down; nothing if it is not one.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = match fraction {
        "" => 0,
        _ => fraction.parse::<u128>().ok()?.checked_mul(unit)? / 10u128.pow(fraction.len() as u32),
    };
    whole.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let ms = |n| Ok(Duration::from_millis(n));
        assert_eq!(duration("1m30s"), ms(90_000));
        assert_eq!(duration("1.5s"), ms(1_500));
        assert_eq!(duration("0"), ms(0));
        assert_eq!(duration(".5h"), ms(1_800_000));
        assert_eq!(duration("1h2m3s4ms"), ms(3_723_004));
        for wrong in ["", "10", "-5s", "5 s", "1d", "s", "1..5s", "9999999999999h", "+"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_print_with_one_exact_unit() {
        for text in ["90s", "250ms", "1ns", "0s", "7us"] {
            assert_eq!(duration(text).map(go_duration), Ok(text.to_string()));
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(bytes("64M"), Ok(64 << 20));
        assert_eq!(bytes("1.5g"), Ok(3 << 29));
        assert_eq!(bytes("512KiB"), Ok(512 << 10));
        assert_eq!(bytes("12"), Ok(12));
        assert_eq!(bytes("12b"), Ok(12));
        for wrong in ["", "M", "1x", "-1m", "1i", "99999999999p"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn processors_are_counted_exactly() {
        assert_eq!(nano_cpus("0.50"), Ok(500_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        assert_eq!(nano_cpus("0.000000001"), Ok(1));
        assert!(nano_cpus("0.0000000001").is_err());
        assert!(nano_cpus("half").is_err());
    }
}
