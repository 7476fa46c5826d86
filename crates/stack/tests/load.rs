//! Stack files in `tests/data`, with what must come out of them: a folder under `good` lowers to
//! its `lowered.json`, a file under `bad` gives the report beside it. `UPDATE_EXPECT=1` rewrites.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stack::{Diagnostics, Files, Input, Loaded, Lowered};

/// A folder, whose files are known by paths below `/project`.
struct Folder(PathBuf);

impl Files for Folder {
    fn read(&self, path: &Path) -> Result<String, String> {
        let inside = path.strip_prefix("/project").map_err(|_| "outside the project")?;
        fs::read_to_string(self.0.join(inside)).map_err(|_| "no such file".to_string())
    }
}

fn data(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(kind);
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn load(folder: &Path, files: &[&Path]) -> Result<Loaded, Diagnostics> {
    let named = |path: &Path| {
        let name = PathBuf::from(path.file_name().unwrap());
        (name, fs::read_to_string(path).unwrap())
    };
    let dot_env = folder.join(".env");
    let environment = [("HOME", "/home/ala"), ("FROM_OUTSIDE", "outside")];
    let input = Input {
        files: files.iter().map(|path| named(path)).collect(),
        environment: environment.map(|(k, v)| (k.to_string(), v.to_string())).into(),
        dot_env: dot_env.exists().then(|| named(&dot_env)),
        project_dir: PathBuf::from("/project"),
    };
    stack::load(&input, &Folder(folder.to_path_buf()))
}

fn expect(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} (UPDATE_EXPECT=1 rewrites it)", path.display());
}

fn as_json(lowered: &Lowered, warnings: Vec<String>) -> Value {
    let services = lowered.services.iter().map(|service| {
        let artifact = service.artifact.as_ref().map(|artifact| format!("{artifact:?}"));
        let build = service.build.as_ref().map(|build| format!("{build:?}"));
        json!({
            "short_name": service.short_name,
            "image": service.image,
            "depends_on": service.depends_on,
            "artifact": artifact,
            "build": build,
            "spec": service.spec,
        })
    });
    let services: Vec<Value> = services.collect();
    json!({
        "warnings": warnings,
        "networks": lowered.networks,
        "configs": lowered.configs,
        "secrets": lowered.secrets,
        "external": format!("{:?}", lowered.external),
        "services": services,
    })
}

/// `stack.yml` and then `override.yml` and whatever else is there by name.
fn stack_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "yml")).collect();
    files.sort_by_key(|path| (!path.ends_with("stack.yml"), path.clone()));
    files
}

#[test]
fn good_stack_files_lower_to_what_is_written_beside_them() {
    for folder in data("good") {
        let files = stack_files(&folder);
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let loaded = load(&folder, &files)
            .unwrap_or_else(|report| panic!("{}:\n{}", folder.display(), report.rendered()));
        let warnings = loaded
            .warnings
            .iter()
            .map(|w| format!("{}:{}:{}: {}", w.file.display(), w.line, w.column, w.message));
        let value = as_json(&loaded.stack.lower("ala"), warnings.collect());
        let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
        expect(&folder.join("lowered.json"), &text);
    }
}

#[test]
fn bad_stack_files_are_reported_with_a_caret() {
    for path in data("bad").iter().filter(|path| path.extension().is_some_and(|e| e == "yml")) {
        let report = match load(path.parent().unwrap(), &[path]) {
            Ok(_) => panic!("{} has no error", path.display()),
            Err(report) => report,
        };
        expect(&path.with_extension("txt"), &(report.rendered() + "\n"));
    }
}

#[test]
fn the_process_environment_wins_over_dot_env() {
    let files = vec![(PathBuf::from("s.yml"), "services: {a: {image: \"$A-$B\"}}".to_string())];
    let input = Input {
        files,
        environment: BTreeMap::from([("A".to_string(), "outer".to_string())]),
        dot_env: Some((PathBuf::from(".env"), "A=inner\nB=inner\n".to_string())),
        project_dir: PathBuf::from("/project"),
    };
    let loaded = stack::load(&input, &Folder(PathBuf::new())).unwrap();
    assert_eq!(loaded.stack.services["a"].image.as_deref(), Some("outer-inner"));
}

/// `tests/data/docker/service.json` is what docker/cli 28.2.2 sent for the file beside it.
#[test]
fn a_service_lowers_to_the_very_body_docker_stack_deploy_sends() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/docker");
    let loaded = load(&folder, &[&folder.join("stack.yml")]).unwrap();
    let lowered = loaded.stack.lower("stk");
    let sent = fs::read_to_string(folder.join("service.json")).unwrap();
    let mut sent: Value = serde_json::from_str(&sent).unwrap();
    // The two deliberate differences: ids are filled in later, names carry a hash.
    let container = &mut sent["TaskTemplate"]["ContainerSpec"];
    for (list, id, name) in
        [("Secrets", "SecretID", "SecretName"), ("Configs", "ConfigID", "ConfigName")]
    {
        let reference = container[list][0].as_object_mut().unwrap();
        reference.remove(id);
        let bodies = if list == "Secrets" { &lowered.secrets } else { &lowered.configs };
        reference.insert(name.to_string(), bodies[0]["Name"].clone());
    }
    assert_eq!(lowered.services[0].spec, sent);
}

#[test]
fn the_page_of_keys_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose-keys.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, stack::keys::markdown()).unwrap();
    }
    let written = fs::read_to_string(&page).unwrap_or_default();
    let stale = "docs/compose-keys.md is stale: UPDATE_DOCS=1 cargo test -p stack rewrites it";
    assert_eq!(written, stack::keys::markdown(), "{stale}");
}

#[test]
fn an_anonymous_stack_is_refused_without_a_panic() {
    let report = stack::load(&Input::default(), &Folder(PathBuf::new())).unwrap_err();
    assert_eq!(report.0[0].code, "no-file");
    assert!(report.rendered().contains("no stack file was given"));
}

/// The project's own example is an ordinary stack file: it loads without a warning.
#[test]
fn the_example_application_loads_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ala");
    let loaded = load(&folder, &[&folder.join("docker-stack.yml")])
        .unwrap_or_else(|report| panic!("{}", report.rendered()));
    let warnings: Vec<String> = loaded.warnings.iter().map(|w| w.rendered()).collect();
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
    assert!(loaded.stack.services.len() > 1);
}

#[test]
fn a_wrong_value_that_comes_from_a_secret_is_not_shown() {
    let text =
        "services: {a: {image: a, ports: [\"${API_TOKEN}\"], stop_grace_period: $API_TOKEN}}";
    let input = Input {
        files: vec![(PathBuf::from("s.yml"), text.to_string())],
        environment: BTreeMap::from([("API_TOKEN".to_string(), "hunter2".to_string())]),
        dot_env: None,
        project_dir: PathBuf::from("/project"),
    };
    let report = stack::load(&input, &Folder(PathBuf::new())).unwrap_err();
    assert_eq!(report.errors().count(), 2);
    assert!(!report.rendered().contains("hunter2"), "{}", report.rendered());
}
