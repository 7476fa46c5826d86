//! Patterns over names, as Go's `path.Match` has them: `*` and `?` stop at a slash. Pure.

/// Whether the whole text fits. A pattern that is none (`[a`) fits nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut in_text) = (0, 0);
    // Where to try again: behind the last star, one letter further.
    let mut again: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(at) {
            None if in_text == text.len() => return true,
            None => None,
            Some('*') => {
                again = Some((at + 1, in_text));
                at += 1;
                continue;
            }
            Some(_) => text.get(in_text).and_then(|letter| one(&pattern[at..], *letter)),
        };
        match (step, again) {
            (Some(length), _) => {
                at += length;
                in_text += 1;
            }
            (None, Some((behind, from))) if text.get(from).is_some_and(|letter| *letter != '/') => {
                (at, in_text, again) = (behind, from + 1, Some((behind, from + 1)));
            }
            (None, _) => return false,
        }
    }
}

/// How much of the pattern stands for this one letter.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern.first()? {
        '?' => (letter != '/').then_some(1),
        '\\' => (*pattern.get(1)? == letter).then_some(2),
        '[' => {
            let end = pattern.iter().skip(2).position(|letter| *letter == ']')? + 2;
            let (is_not, inside) = match &pattern[1..end] {
                ['^', inside @ ..] => (true, inside),
                inside => (false, inside),
            };
            let mut is_in = false;
            let mut at = 0;
            while at < inside.len() {
                if inside.get(at + 1) == Some(&'-') && at + 2 < inside.len() {
                    is_in |= (inside[at]..=inside[at + 2]).contains(&letter);
                    at += 3;
                } else {
                    is_in |= inside[at] == letter;
                    at += 1;
                }
            }
            (is_in != is_not).then_some(end + 1)
        }
        own => (*own == letter).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, text) in [
            ("a*", "abc"),
            ("*", "abc"),
            ("a/*", "a/b"),
            ("*b*d", "abcd"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[^a]x", "bx"),
            ("a\\*", "a*"),
            ("*:v?", "app:v1"),
            ("", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a*", "a/b"),
            ("?", "/"),
            ("[a", "a"),
            ("[^a]x", "ax"),
            ("a", "ab"),
            ("ab", "a"),
            ("*x", "ab"),
            ("[]", "a"),
            ("\\", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
