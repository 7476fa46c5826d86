//! Docker's service templates. What is taken when a service or a config is made expands for its
//! tasks to the same every time, to no more than is allowed, and keeps what is no template.
//!
//! Input: a template, for a config and for a service's environment.

use dockerapi::spec::{ContainerSpec, Reference, ReferenceFile};
use engine::template::{self, Context, Payload};

/// What one task's texts may come to.
const LIMIT_BYTES: usize = 8 << 20;

pub fn run(data: &[u8]) {
    let context = Context {
        service_id: "svc",
        service_name: "web",
        service_labels: [("tier", "front"), ("a.b", "{{"), ("", "x")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        node_id: "n1",
        node_hostname: "host",
        task_id: "t1",
        task_name: "web.2.t1",
        task_slot: "2".to_owned(),
    };
    config(data, &context);
    if let Some(text) = super::utf8(data) {
        environment(text, &context);
    }
}

fn config(data: &[u8], context: &Context<'_>) {
    let named = |id: &str| Reference {
        secret_id: id.to_owned(),
        secret_name: id.to_owned(),
        file: ReferenceFile { name: id.to_owned(), ..ReferenceFile::default() },
        ..Reference::default()
    };
    let spec = ContainerSpec {
        env: vec!["HOST=db".to_owned()],
        secrets: vec![named("s")],
        configs: vec![named("c")],
        ..ContainerSpec::default()
    };
    let files = [("s".to_owned(), vec![b's'; 1 << 16]), ("c".to_owned(), b"\xff".to_vec())].into();
    let all = Payload { spec: &spec, files: &files };
    let made = template::payload(&spec.configs[0], data, context, &all);
    let again = template::payload(&spec.configs[0], data, context, &all);
    assert_eq!(made, again);
    let described = serde_json::json!({ "Templating": { "Name": "golang" } });
    match (template::check_object(&described, data), made) {
        (Ok(()), Ok(made)) => {
            assert!(made.len() <= LIMIT_BYTES + data.len(), "{} bytes", made.len());
            let is_template = data.windows(2).any(|two| two == b"{{");
            assert!(is_template || made == data, "what is no template was changed");
        }
        // A config may be fine and name what a task does not have.
        (Ok(()), Err(why)) => assert!(why.starts_with("expanding c failed: "), "{why}"),
        (Err(_), made) => assert!(made.is_err(), "refused, and expanded all the same"),
    }
}

fn environment(text: &str, context: &Context<'_>) {
    let wanted = ContainerSpec {
        env: vec![format!("A={text}")],
        hostname: text.to_owned(),
        ..ContainerSpec::default()
    };
    match template::spec(&wanted, context) {
        // Neither has more to say than the other.
        Ok(made) => assert_eq!(made.env[0].strip_prefix("A="), Some(made.hostname.as_str())),
        Err(why) => assert!(!why.is_empty()),
    }
}
