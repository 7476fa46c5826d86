//! Templates by example, and every text at all.

use dockerapi::spec::{Mount, ReferenceFile};
use proptest::prelude::*;

use super::*;

fn context() -> Context<'static> {
    Context {
        service_id: "svc",
        service_name: "ala_api",
        service_labels: [("tier", "web"), ("a.b", "dotted")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        node_id: "n1",
        node_hostname: "host",
        task_id: "t1",
        task_name: "ala_api.2.t1",
        task_slot: "2".to_owned(),
    }
}

fn expand(text: &str) -> Result<String, String> {
    let template = Template::parse(text).map_err(|wrong| wrong.to_string())?;
    template.expand(&context(), None).map_err(|wrong| wrong.to_string())
}

#[track_caller]
fn gives(text: &str, expected: &str) {
    assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
}

#[track_caller]
fn fails(text: &str, expected: &str) {
    let error = expand(text).expect_err(text);
    assert!(error.contains(expected), "{text}: {error}");
}

#[test]
fn every_field_of_service_node_and_task_is_known() {
    gives("{{.Service.ID}}/{{.Service.Name}}/{{.Service.Labels.tier}}", "svc/ala_api/web");
    gives(r#"{{index .Service.Labels "a.b"}}"#, "dotted");
    gives(r#"[{{index .Service.Labels "missing"}}]"#, "[]");
    gives("{{.Node.ID}} {{ .Node.Hostname }}", "n1 host");
    gives("{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", &{
        format!("linux/{}", std::env::consts::ARCH)
    });
    gives("{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}", "t1 ala_api.2.t1 2");
    gives("{{.Service.Labels}}", "map[a.b:dotted tier:web]");
}

#[test]
fn pipelines_conditions_and_white_space_are_go_s() {
    gives(r#"{{"a.b" | index .Service.Labels}}"#, "dotted");
    gives(r#"{{join "-" .Service.Name (print "x" .Task.Slot)}}"#, "ala_api-x2");
    gives(r#"{{(index .Service.Labels "tier")}}"#, "web");
    gives("{{(.Service).Name}}", "ala_api");
    gives("a  {{- .Task.Slot -}}  b", "a2b");
    gives("a {{/* nothing */}}b{{- /* here */ -}} c", "a bc");
    gives("{{`raw \"text\"`}} {{\"q\\\"\\n\"}}", "raw \"text\" q\"\n");
    let slots =
        r#"{{if eq .Task.Slot "1"}}first{{else if eq .Task.Slot "2"}}second{{else}}-{{end}}"#;
    gives(slots, "second");
    gives("{{if .Service.Labels.tier}}yes{{end}}{{if not true}}no{{end}}", "yes");
    gives(r#"{{or "" "x"}}{{and "x" ""}}{{ne 1 2}}"#, "xtrue");
    gives("no braces } }} here", "no braces } }} here");
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    fails("{{.Service.Nam}}", "expansion:1: can't evaluate field Nam");
    fails("one\n{{.Service.Labels.nope}}", r#"expansion:2: map has no entry for key "nope""#);
    fails("{{.Service", "unclosed action");
    fails("{{}}", "missing value");
    fails("{{nope 1}}", r#"function "nope" not defined"#);
    fails("{{range .Service.Labels}}x{{end}}", "{{range}} is not supported");
    fails("{{if true}}x", "{{if}} without {{end}}");
    fails("x{{end}}", "unexpected {{end}}");
    fails("{{\"open}}", "unterminated");
    fails("{{(.Task.ID}}", "unclosed left paren");
    fails("{{.Task.ID)}}", "unexpected right paren");
    fails("{{.Task.ID 1}}", "takes no arguments");
    fails("{{.Task}}", ".Task is no text");
    fails(r#"{{secret "x"}}"#, "it is for configs and secrets");
    fails("{{.Service.Labels.tier.more}}", "can't evaluate field more");
    fails(&"{{if true}}".repeat(100), "too many conditions");
    fails(&format!("{{{{{}", "(".repeat(1000)), "unclosed action");
    fails(&format!("{{{{{}1{}}}}}", "(".repeat(99), ")".repeat(99)), "too many parentheses");
    fails(&format!("{{{{true{}}}}}", " | not".repeat(1 << 14)), "too many pipes");
}

#[test]
fn a_config_is_made_from_environment_secrets_and_other_configs() {
    let reference = |id: &str, name: &str| Reference {
        secret_id: id.to_owned(),
        secret_name: name.to_owned(),
        file: ReferenceFile { name: name.to_owned(), ..ReferenceFile::default() },
        ..Reference::default()
    };
    let spec = ContainerSpec {
        env: vec!["HOST=db".to_owned()],
        secrets: vec![reference("s1", "password")],
        configs: vec![reference("c1", "/etc/motd")],
        ..ContainerSpec::default()
    };
    let files = [("s1", "hush"), ("c1", "hello")]
        .map(|(id, bytes)| (id.to_owned(), bytes.as_bytes().to_vec()))
        .into();
    let all = Payload { spec: &spec, files: &files };
    let make = |text: &str| payload(&spec.configs[0], text.as_bytes(), &context(), &all);
    let text =
        r#"{{env "HOST"}}:{{secret "password"}} {{config "/etc/motd"}} {{env "NO"}}{{.Task.Slot}}"#;
    assert_eq!(make(text), Ok(b"db:hush hello 2".to_vec()));
    let missing = make(r#"{{secret "other"}}"#).expect_err("not there");
    assert_eq!(
        missing,
        "expanding /etc/motd failed: template: expansion:1: secret target other not found"
    );
    assert!(payload(&spec.configs[0], b"\xff{{", &context(), &all).is_err());
}

#[test]
fn environment_host_name_and_mounts_are_expanded_and_a_value_is_never_told() {
    let mut wanted = ContainerSpec {
        env: vec!["A={{.Task.Slot}}".to_owned(), "B".to_owned()],
        hostname: "{{.Service.Name}}-{{.Task.Slot}}".to_owned(),
        mounts: vec![Mount {
            source: "data-{{.Task.Slot}}".to_owned(),
            target: "/data".to_owned(),
            ..Mount::default()
        }],
        ..ContainerSpec::default()
    };
    let made = spec(&wanted, &context()).expect("expanded");
    assert_eq!(made.env, ["A=2", "B"]);
    assert_eq!((made.hostname.as_str(), made.mounts[0].source.as_str()), ("ala_api-2", "data-2"));
    wanted.env = vec!["TOKEN=canary{{.Nope}}".to_owned()];
    let error = spec(&wanted, &context()).expect_err("no such field");
    assert!(error.starts_with("expanding env failed: TOKEN: ") && !error.contains("canary"));
}

#[test]
fn what_grows_beyond_measure_is_refused_before_it_is_made() {
    let large = "x".repeat(1 << 20);
    for text in [
        format!("{{{{join \"{large}\"{}}}}}", " ``".repeat(100)),
        format!("{{{{print `{large}`{}}}}}", " | print".repeat(20)),
    ] {
        let error = expand(&text).expect_err("too much");
        assert!(error.contains("comes to more than 8388608 bytes"), "{error}");
    }
    let mut many = ContainerSpec {
        env: vec![format!("A={{{{print `{large}`}}}}"); 8],
        ..ContainerSpec::default()
    };
    let error = spec(&many, &context()).expect_err("too much together");
    assert!(error.contains("comes to more than"), "{error}");
    many.env.truncate(2);
    assert!(spec(&many, &context()).is_ok());
}

#[test]
fn lines_of_many_actions_are_counted_in_one_go() {
    let text = "{{1}}\n".repeat(50_000) + "{{.Nope}}";
    fails(&text, "expansion:50001: can't evaluate field Nope");
}

proptest! {
    #[test]
    fn no_text_at_all_makes_it_fail_otherwise_than_with_words(text in ".{0,80}") {
        let _ = expand(&text);
        let _ = expand(&format!("{{{{{text}}}}}"));
    }

    #[test]
    fn no_mixture_of_its_own_parts_makes_it_fail_otherwise_than_with_words(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{{-", "-}}", " ", ".", "Task", ".Service", "Labels", "if", "else", "end",
            "(", ")", "|", "index", "\"", "`", "\\", "/*", "*/", "é", "1", "-", "eq", "\n",
        ]), 0..24)
    ) {
        let _ = expand(&parts.concat());
    }
}
