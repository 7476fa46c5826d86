//! Lines of several nodes in the order of their times. Pure.
//!
//! Nobody knows which node still has an earlier line on its way: a line is held for a moment, and
//! goes as soon as one that is not earlier has been held that long.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use orchestrator::Time;

/// Longer than a line is under way between two nodes.
const HELD: Duration = Duration::from_millis(300);

/// Lines that wait for earlier ones.
#[derive(Debug)]
pub struct Held<T> {
    lines: BTreeMap<(Time, u64), (Instant, T)>,
    count: u64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), count: 0 }
    }
}

impl<T> Held<T> {
    /// A line that was written at `time` and came `now`.
    pub fn put(&mut self, now: Instant, time: Time, line: T) {
        self.count += 1;
        self.lines.insert((time, self.count), (now, line));
    }

    /// The lines that may go now, in order.
    pub fn due(&mut self, now: Instant) -> impl Iterator<Item = T> + use<T> {
        let is_over = |came: &Instant| now.saturating_duration_since(*came) >= HELD;
        let last = self.lines.iter().rev().find(|(_, (came, _))| is_over(came));
        let due = match last.map(|(key, _)| (key.0, key.1 + 1)) {
            Some(after) => {
                let rest = self.lines.split_off(&after);
                std::mem::replace(&mut self.lines, rest)
            }
            None => BTreeMap::new(),
        };
        due.into_values().map(|(_, line)| line)
    }

    /// All that is left, in order.
    pub fn rest(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.lines).into_values().map(|(_, line)| line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(held: &mut Held<&'static str>, at: Instant) -> Vec<&'static str> {
        held.due(at).collect()
    }

    #[test]
    fn a_line_that_comes_late_is_still_in_its_place() {
        let (mut held, start) = (Held::default(), Instant::now());
        held.put(start, Time(2), "second");
        held.put(start + HELD / 2, Time(1), "first");
        held.put(start + HELD / 2, Time(3), "third");
        assert!(due(&mut held, start + HELD / 2).is_empty());
        assert_eq!(due(&mut held, start + HELD), ["first", "second"]);
        assert_eq!(held.rest().collect::<Vec<_>>(), ["third"]);
    }

    #[test]
    fn lines_of_one_moment_stay_as_they_came() {
        let (mut held, start) = (Held::default(), Instant::now());
        ["a", "b", "c"].into_iter().for_each(|line| held.put(start, Time(1), line));
        assert_eq!(due(&mut held, start + HELD), ["a", "b", "c"]);
        assert!(held.rest().next().is_none());
    }
}
