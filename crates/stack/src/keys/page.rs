//! The table as a page of the documentation.

use super::{Key, Status, table};

const HEAD: &str = "\
# Compose keys

What `keel` does with each key of a Compose / stack file. This page is generated from the table the
program itself uses (`crates/stack/src/keys/`); do not edit it, run
`UPDATE_DOCS=1 cargo test -p stack` instead.

- **supported**: does what `docker stack deploy` does, or what the note says.
- **ignored**: the file is accepted, a warning says why the key has no effect.
- **refused**: an error with the reason; nothing is deployed.

A key that is not listed is an error that points at the place, suggests the nearest name and lists
the valid ones. `x-` keys of others are accepted everywhere and not read. In a path, `*` is any name
and `[]` an item of a list.

Configs and secrets that have no `name:` of their own are called
`<stack>_<key>-<first 8 hex digits of the SHA-256 of the content>` in the engine. Docker cannot change
the content of a config or secret; with the content in the name, a deploy with changed content makes a
new object and replaces the tasks that use it, and a rollback goes back to the old one.

Variables: `$V ${V} ${V:-default} ${V-default} ${V:?error} ${V?error} ${V:+other} ${V+other} $$`, in
values, not in keys. The process environment wins over `.env`. Several `-c` files are merged: maps key
by key, lists appended; `command`, `entrypoint` and `healthcheck.test` replaced; `ports` matched by
published port, `volumes` by target, `configs` and `secrets` by source; `!reset` removes a key,
`!override` replaces a value.
";

/// The text of `docs/compose-keys.md`.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    let mut section = "";
    for key in table() {
        let here = section_of(key.path);
        if here != section {
            section = here;
            page.push_str(&format!("\n## {section}\n\n| key | | note |\n|---|---|---|\n"));
        }
        page.push_str(&row(key));
    }
    page
}

fn section_of(path: &'static str) -> &'static str {
    match path.split('.').next() {
        Some("services") if path.starts_with("services.*.deploy") => "deploy",
        Some("services") if path.starts_with("services.*.x-evenkeel") => "services: x-evenkeel",
        Some(top @ ("services" | "networks" | "volumes" | "configs" | "secrets")) => top,
        Some(_) | None => "top level",
    }
}

fn row(key: &Key) -> String {
    let (status, note) = match key.status {
        Status::Supported => ("supported", key.note),
        Status::Ignored(reason) => ("ignored", reason),
        Status::Refused(reason) => ("refused", reason),
    };
    format!("| `{}` | {status} | {note} |\n", key.path)
}
