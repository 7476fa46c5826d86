//! Stack files: reading, merging, interpolating, checking, lowering, comparing.
//!
//! Input: the stack file, then after a line `#=== over` a second one, then after a line
//! `#=== env` the `.env` (which also serves as every `env_file`).

use std::path::{Path, PathBuf};

use stack::{Files, Input, diff};

struct Texts<'a>(&'a str);

impl Files for Texts<'_> {
    fn read(&self, _: &Path) -> Result<String, String> {
        Ok(self.0.to_owned())
    }
}

pub fn run(data: &[u8]) {
    let Some(text) = super::utf8(data).filter(|text| text.len() < 1 << 16) else { return };
    let (files, env) = text.split_once("\n#=== env\n").unwrap_or((text, ""));
    let files = files.split("\n#=== over\n").take(3).enumerate();
    let input = Input {
        files: files
            .map(|(n, text)| (PathBuf::from(format!("{n}.yml")), text.to_owned()))
            .collect(),
        environment: [("VERSION".to_owned(), "1".to_owned())].into(),
        dot_env: Some((PathBuf::from(".env"), env.to_owned())),
        project_dir: PathBuf::from("/project"),
    };
    let files = Texts(env);
    let loaded = stack::load(&input, &files);
    match (&loaded, stack::load(&input, &files)) {
        (Ok(first), Ok(second)) => assert!(*first == second, "two loads differ"),
        (Err(first), Err(second)) => assert_eq!(first.rendered(), second.rendered()),
        _ => panic!("the same text is fine once and wrong once"),
    }
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(report) => {
            assert!(report.errors().count() > 0, "refused without a reason");
            assert!(report.rendered().contains("error"));
            return;
        }
    };
    loaded.warnings.iter().for_each(|warning| drop(warning.rendered()));
    let lowered = loaded.stack.lower("ns");
    let again = loaded.stack.lower("ns");
    assert!(lowered == again, "lowering the same stack twice differs");
    for service in &lowered.services {
        let spec = &service.spec;
        assert!(diff::changes(spec, spec).is_empty(), "a spec differs from itself: {spec}");
        assert!(!diff::replaces_tasks(spec, spec), "an unchanged spec replaces tasks: {spec}");
        // What the wire gives back is compared with what was sent at every deploy.
        let back = serde_json::from_str(&spec.to_string()).expect("our own JSON");
        assert!(diff::changes(spec, &back).is_empty(), "changed by the wire: {spec}");
        // A refusal is fine, it has words of its own.
        let _ = dockerapi::convert::service(spec);
    }
    for pair in lowered.services.windows(2) {
        drop(diff::changes(&pair[0].spec, &pair[1].spec));
    }
}
