//! Small texts: filters, times, durations, quantities, versions, names of images. The first byte
//! says which.

use std::time::Duration;

use dockerapi::{client, filter::Filters, stamp, version};
use engine::{driver::plan, image};
use orchestrator::Time;
use serde_json::{Value, json};
use stack::{mask, quantity};

pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Some(text) = super::utf8(rest) else { return };
    match kind {
        b'f' => filters(text),
        b't' => times(text),
        b'd' => durations(text),
        b'q' => quantities(text),
        b'v' => versions(text),
        b'i' => names(text),
        b'u' => drop(mask::without_url_password(text)),
        b's' => signals(text),
        _ => {}
    }
}

fn filters(text: &str) {
    let known = ["label", "name", "id"];
    let Ok(read) = Filters::parse(Some(text), &known) else { return };
    // Both forms that clients write mean the same.
    let listed: Value = known
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), json!(read.get(key)?))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let again = Filters::parse(Some(&listed.to_string()), &known).expect("our own form");
    assert_eq!(read, again);
    let labels = json!({ "a": "b", "": "" });
    read.labels(&labels);
    if read.get("label").is_none() {
        assert!(read.labels(&Value::Null));
    }
}

fn times(text: &str) {
    if let Some(at) = stamp::parse(text) {
        assert_eq!(stamp::parse(&stamp::text(at)), Some(at), "{text}");
    }
    if let Some(at) = stamp::parse_unix(text) {
        let written = format!("{}.{:09}", at.0 / 1_000_000_000, at.0 % 1_000_000_000);
        assert_eq!(stamp::parse_unix(&written), Some(at), "{text}");
        assert_eq!(stamp::parse(&stamp::text(at)), Some(at), "{text}");
    }
}

fn durations(text: &str) {
    let _ = stamp::parse_duration(text);
    let Ok(read) = quantity::duration(text) else { return };
    let written = quantity::go_duration(read);
    let again = quantity::duration(&written).expect("our own text");
    assert_eq!(read, again, "{text} → {written}");
    // The engine reads it from a label as the same.
    let there = stamp::parse_duration(&written);
    let differs = |there: Duration| there.abs_diff(read) > Duration::from_micros(1);
    let is_usual = read < Duration::from_secs(1 << 20);
    assert!(!is_usual || there.is_some_and(|there| !differs(there)), "{written} → {there:?}");
    let _ = Time(1) + read;
}

fn quantities(text: &str) {
    let _ = quantity::bytes(text);
    if let Ok(cpus) = quantity::nano_cpus(text) {
        assert!(cpus >= 0, "{text} → {cpus}");
    }
}

fn versions(text: &str) {
    if let Some(read) = version::parse(text) {
        assert_eq!(version::parse(&version::text(read)), Some(read));
    }
    if let Ok(rest) = version::strip(text) {
        assert!(text.ends_with(rest));
    }
    let escaped = client::escape(text);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%-_.~".contains(&byte);
    assert!(escaped.bytes().all(is_plain), "{escaped}");
}

fn names(text: &str) {
    let name = image::normalised(text);
    assert_eq!(image::normalised(&name), name, "{text}");
}

fn signals(text: &str) {
    if let Some(number) = plan::signal_number(text) {
        assert!((1..=64).contains(&number), "{text} → {number}");
    }
}
