//! Fuzz targets: one per kind of bytes that come from outside. Each takes any bytes and panics when
//! a property does not hold; `tests/replay.rs` runs them on all inputs that are kept.
//!
//! Reading order: [`TARGETS`], then the target. `corpus/NAME` has small real inputs to start from,
//! `regression/NAME` the inputs that once failed, `dictionary/NAME` words that mean something.

mod api;
mod archive;
mod body;
mod control;
mod copy;
mod head;
mod layer;
mod log;
mod stack;
mod template;
mod text;

/// Something that reads bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 11] = [
    Target {
        name: "stack",
        about: "stack files, merged and interpolated, and .env",
        run: stack::run,
    },
    Target { name: "text", about: "filters, times, quantities, names of images", run: text::run },
    Target { name: "template", about: "templates of services and configs", run: template::run },
    Target { name: "archive", about: "image archives and their manifests", run: archive::run },
    Target { name: "layer", about: "layers of an image, unpacked", run: layer::run },
    Target { name: "copy", about: "archives of `docker cp`", run: copy::run },
    Target { name: "log", about: "log frames and log files", run: log::run },
    Target { name: "body", about: "service specs and updates as JSON", run: body::run },
    Target { name: "api", about: "the Engine API, request bytes on its socket", run: api::run },
    Target { name: "head", about: "HTTP heads and bodies in the ingress", run: head::run },
    Target {
        name: "control",
        about: "answers to our client, words to the ingress",
        run: control::run,
    },
];

/// The target of a name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// Text to work on: what is not text is not looked at.
fn utf8(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
