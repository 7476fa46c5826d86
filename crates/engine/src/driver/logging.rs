//! How much of a task's log is kept: `max-size` and `max-file` of Docker's drivers for local files.

use dockerapi::spec::LogDriver;

/// More files than this nobody reads.
const MOST_FILES: u32 = 99;

/// Bytes per file and number of files; what the options leave open is as `otherwise`.
///
/// As with Docker's `json-file`, a size without a number of files means one file.
pub(super) fn limits(driver: &LogDriver, otherwise: (u64, u32)) -> Result<(u64, u32), String> {
    // Others have options of their own, and their logs are kept here all the same.
    if !matches!(driver.name.as_str(), "" | "json-file" | "local") {
        return Ok(otherwise);
    }
    let size = driver.options.get("max-size");
    let bytes = match size.map(|text| (text, bytes(text))) {
        None => otherwise.0,
        Some((_, Some(bytes))) => bytes,
        Some((text, None)) => {
            return Err(format!("log option max-size: `{text}` is not a size such as 10m"));
        }
    };
    let files = match driver.options.get("max-file").map(|text| (text, text.parse::<u32>())) {
        None if size.is_some() && driver.name != "local" => 1,
        None => otherwise.1,
        Some((_, Ok(count @ 1..))) => count.min(MOST_FILES),
        Some((text, _)) => {
            return Err(format!("log option max-file: `{text}` is not a number of files"));
        }
    };
    Ok((bytes, files))
}

/// `10m` as Docker reads it: thousands, not 1024s. `-1` is no limit.
fn bytes(text: &str) -> Option<u64> {
    if text == "-1" {
        return Some(u64::MAX);
    }
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, options: &[(&str, &str)]) -> Result<(u64, u32), String> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        limits(&LogDriver { name: name.to_owned(), options, ..Default::default() }, (7, 3))
    }

    #[test]
    fn what_is_left_open_is_ours() {
        assert_eq!(kept("", &[]), Ok((7, 3)));
        assert_eq!(kept("json-file", &[("max-file", "5")]), Ok((7, 5)));
        assert_eq!(kept("syslog", &[("max-size", "nonsense")]), Ok((7, 3)));
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        assert_eq!(kept("json-file", &[("max-size", "10m")]), Ok((10_000_000, 1)));
        assert_eq!(kept("local", &[("max-size", "2kb")]), Ok((2_000, 3)));
        let both = [("max-size", "1g"), ("max-file", "1000")];
        assert_eq!(kept("", &both), Ok((1_000_000_000, MOST_FILES)));
        assert_eq!(kept("", &[("max-size", "-1")]), Ok((u64::MAX, 1)));
    }

    #[test]
    fn what_is_no_size_or_number_is_said() {
        for wrong in ["", "m", "10x", "-5", "0", "99999999999999999999"] {
            let error = kept("json-file", &[("max-size", wrong)]).expect_err("refused");
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
        assert!(kept("json-file", &[("max-file", "0")]).is_err());
    }
}
