//! `docker import`: a file system's tar as an image of one layer.

use std::{fs, io::Read};

use dockerapi::stamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    Error, Store,
    archive::{save, text_of},
    intake::{Arrival, Blob},
    manifest,
    unpack::explain,
};

impl Store {
    /// Takes a layer as a whole image; returns its id.
    pub fn import(
        &self,
        mut layer: impl Read,
        name: Option<String>,
        message: &str,
    ) -> Result<String, Error> {
        let incoming = self.fresh_folder()?;
        let imported = (|| {
            let path = incoming.join("layer");
            let layer = save(&mut layer, path.clone()).map_err(|error| explain(&path, &error))?;
            let facts = layer.inspect()?;
            if facts.entries == 0 {
                return Err(Error::Archive("it is no tar, or an empty one".to_owned()));
            }
            let now = stamp::text(stamp::now());
            let config = json!({
                "created": now, "architecture": manifest::architecture(), "os": "linux",
                "config": {}, "rootfs": { "type": "layers", "diff_ids": [facts.diff_id] },
                "history": [{ "created": now, "comment": message }],
            });
            let (bytes, path) = (config.to_string(), incoming.join("config"));
            fs::write(&path, &bytes).map_err(|error| explain(&path, &error))?;
            let digest = format!("sha256:{}", text_of(Sha256::new_with_prefix(&bytes)));
            let config = Blob { path, digest: digest.clone(), length: bytes.len() as u64 };
            let names = name.into_iter().collect();
            let image = self.check(Arrival {
                config,
                layers: vec![layer],
                document: None,
                manifest: None,
                names,
                digests: Vec::new(),
            })?;
            self.admit(vec![image])?;
            Ok(digest)
        })();
        let _ = fs::remove_dir_all(&incoming);
        imported
    }
}
