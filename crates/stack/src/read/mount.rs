//! Mounts: volumes short and long, and tmpfs.

use super::{Reader, Referent};
use crate::model::{Mount, MountKind};
use crate::quantity;
use crate::tree::{Kind, Node};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
const CONSISTENCIES: [&str; 4] = ["consistent", "cached", "delegated", "default"];

fn empty(kind: MountKind, target: String) -> Mount {
    Mount {
        kind,
        source: None,
        target,
        read_only: false,
        consistency: None,
        propagation: None,
        no_copy: false,
        subpath: None,
        tmpfs_size: None,
        tmpfs_mode: None,
    }
}

impl Reader<'_> {
    pub fn mounts(&mut self, node: &Node, name: &str) -> Option<Vec<Mount>> {
        let mut mounts: Vec<Mount> = Vec::new();
        for item in self.items(node, name) {
            let mount = match item.kind {
                Kind::Scalar(_) => self.quantity(item, "volumes[]", "a mount", short_form),
                Kind::Map(_) => self.long_mount(item),
                Kind::Null | Kind::Seq(_) => self.expected(item, "volumes[]", "a mount or a map"),
            };
            let Some(mount) = mount.map(|mount| self.located(mount)) else { continue };
            if let (MountKind::Volume, Some(volume)) = (mount.kind, &mount.source) {
                let source = item.get("source").unwrap_or(item);
                self.refer(Referent::Volume, volume, source.span);
            }
            let target = |m: &Mount| m.target.trim_end_matches('/').to_string();
            if mounts.iter().any(|known| target(known) == target(&mount)) {
                let message = format!("two mounts have the target `{}`", mount.target);
                self.sink.error(item.span, "duplicate-target", message);
            }
            mounts.push(mount);
        }
        Some(mounts)
    }

    /// The mount with its host path made absolute.
    fn located(&self, mut mount: Mount) -> Mount {
        if mount.kind == MountKind::Bind {
            let source = mount.source.as_deref().unwrap_or_default();
            mount.source = Some(self.absolute(source).display().to_string());
        }
        mount
    }

    fn long_mount(&mut self, map: &Node) -> Option<Mount> {
        let kinds = ["volume", "bind", "tmpfs"];
        let kind = match map.get("type") {
            Some(node) => self.choice(node, "type", &kinds)?,
            None => "volume".to_string(),
        };
        let kind = match kind.as_str() {
            "bind" => MountKind::Bind,
            "tmpfs" => MountKind::Tmpfs,
            _ => MountKind::Volume,
        };
        let Some(target) = map.get("target") else {
            self.sink.error(map.span, "missing-key", "a mount has no `target`");
            return None;
        };
        let mut mount = empty(kind, self.word(target, "target")?);
        mount.source = self.field(map, "source", Reader::word);
        if kind == MountKind::Bind && mount.source.is_none() {
            self.sink.error(map.span, "missing-key", "a bind mount has no `source`");
            return None;
        }
        if kind == MountKind::Tmpfs
            && let Some(source) = map.entry("source")
        {
            self.sink.error(source.key_span, "conflict", "a tmpfs mount has no `source`");
        }
        mount.read_only = self.field(map, "read_only", Reader::flag).unwrap_or_default();
        mount.consistency =
            self.field(map, "consistency", |r, n, name| r.choice(n, name, &CONSISTENCIES));
        if let Some(bind) = map.get("bind").and_then(|node| self.map(node, "bind")) {
            mount.propagation =
                self.field(bind, "propagation", |r, n, name| r.choice(n, name, &PROPAGATIONS));
        }
        if let Some(volume) = map.get("volume").and_then(|node| self.map(node, "volume")) {
            mount.no_copy = self.field(volume, "nocopy", Reader::flag).unwrap_or_default();
            mount.subpath = self.field(volume, "subpath", Reader::word);
        }
        if let Some(tmpfs) = map.get("tmpfs").and_then(|node| self.map(node, "tmpfs")) {
            mount.tmpfs_size = self.field(tmpfs, "size", Reader::bytes);
            mount.tmpfs_mode = self.field(tmpfs, "mode", Reader::file_mode);
        }
        Some(mount)
    }

    /// A service's `tmpfs`.
    pub fn tmpfs(&mut self, node: &Node, name: &str) -> Option<Vec<Mount>> {
        let items = match node.kind {
            Kind::Scalar(_) => std::slice::from_ref(node),
            Kind::Null | Kind::Seq(_) | Kind::Map(_) => self.items(node, name),
        };
        let read = |item| self.quantity(item, "tmpfs", "a path", tmpfs_form);
        Some(items.iter().filter_map(read).collect())
    }
}

/// `[source:]target[:options]`
fn short_form(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err("expected `source:target` or `source:target:options`".to_string()),
    };
    if !target.starts_with('/') {
        return Err(format!("the target `{target}` must be an absolute path in the container"));
    }
    let is_path = |s: &str| s.starts_with(['/', '.', '~']);
    let kind = if source.is_some_and(is_path) { MountKind::Bind } else { MountKind::Volume };
    if source == Some("") {
        return Err("the source is empty".to_string());
    }
    let mut mount = Mount { source: source.map(str::to_string), ..empty(kind, target.to_string()) };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            "rw" | "z" | "Z" => {}
            "nocopy" => mount.no_copy = true,
            _ if PROPAGATIONS.contains(&option) => mount.propagation = Some(option.to_string()),
            _ if CONSISTENCIES.contains(&option) => mount.consistency = Some(option.to_string()),
            _ => return Err(format!("`{option}` is not an option of a mount, `ro` and `rw` are")),
        }
    }
    Ok(mount)
}

/// `path[:size=64m,mode=1777]`
fn tmpfs_form(text: &str) -> Result<Mount, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err("expected an absolute path".to_string());
    }
    let mut mount = empty(MountKind::Tmpfs, target.to_string());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => mount.tmpfs_size = Some(quantity::bytes(size)?),
            Some(("mode", mode)) => {
                let mode = u32::from_str_radix(mode, 8).map_err(|_| "the mode is not octal")?;
                mount.tmpfs_mode = Some(mode);
            }
            Some(_) | None => match option {
                "ro" => mount.read_only = true,
                "rw" | "noexec" | "nosuid" | "nodev" => {}
                _ => {
                    return Err(format!(
                        "`{option}` is not an option of a tmpfs, `size=` and `mode=` are"
                    ));
                }
            },
        }
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_tells_paths_from_volumes() {
        let of = |text: &str| short_form(text).map(|m| (m.kind, m.source, m.target, m.read_only));
        let some = |s: &str| Some(s.to_string());
        assert_eq!(of("/data"), Ok((MountKind::Volume, None, "/data".into(), false)));
        assert_eq!(of("db:/data:ro"), Ok((MountKind::Volume, some("db"), "/data".into(), true)));
        assert_eq!(of("./x:/x"), Ok((MountKind::Bind, some("./x"), "/x".into(), false)));
        assert_eq!(of("~/x:/x"), Ok((MountKind::Bind, some("~/x"), "/x".into(), false)));
        for wrong in ["", "a:b", "a:/b:nope", "a:/b:ro:c", ":/b"] {
            assert!(short_form(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tmpfs_takes_size_and_mode() {
        let mount = tmpfs_form("/run:size=64m,mode=1770").unwrap();
        assert_eq!((mount.tmpfs_size, mount.tmpfs_mode), (Some(64 << 20), Some(0o1770)));
        assert!(tmpfs_form("run").is_err());
    }
}
