//! The image store and the registry client from outside: archives, layers that want out, and
//! registries that lie.

mod archive;
mod layer;
mod liar;
mod make;
mod pull;
mod push;
