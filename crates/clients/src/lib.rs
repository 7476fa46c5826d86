//! Other people's clients of Docker's API, run against the embedded engine. Everything is in
//! `tests` and `python`; this crate never is part of what it tests.
