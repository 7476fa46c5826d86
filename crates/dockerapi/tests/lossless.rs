//! What a real daemon sends comes back as it was, and so does what nobody here has heard of.

use dockerapi::object::{
    ImageInspect, ImageSummary, Info, Network, Node, Service, Task, TaskState, VersionAnswer,
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// Without `null`s and empty defaults: those alone may go.
fn tidy(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    };
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(tidy).collect()),
        Value::Object(map) => {
            let entries = map.into_iter().map(|(key, value)| (key, tidy(value)));
            Value::Object(entries.filter(|(_, value)| !is_empty(value)).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn there_and_back<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    let typed: T = serde_json::from_value(value.clone()).expect("reads");
    serde_json::from_str(&serde_json::to_string(&typed).expect("writes")).expect("is JSON")
}

#[track_caller]
fn check<T: DeserializeOwned + Serialize>(text: &str) {
    let all: Value = serde_json::from_str(text).expect("is JSON");
    let list = match all {
        Value::Array(list) => list,
        one => vec![one],
    };
    for value in list {
        assert_eq!(tidy(there_and_back::<T>(&value)), tidy(value));
    }
}

const SERVICES: &str = include_str!("data/services_status.json");
const TASKS: &str = include_str!("data/tasks.json");

#[test]
fn what_the_real_daemon_sends_comes_back_as_it_was() {
    check::<Service>(include_str!("data/service.json"));
    check::<Service>(include_str!("data/service_insertDefaults.json"));
    check::<Service>(SERVICES);
    check::<Task>(TASKS);
    check::<Node>(include_str!("data/nodes.json"));
    check::<Network>(include_str!("data/networks.json"));
    check::<ImageSummary>(include_str!("data/images.json"));
    check::<ImageInspect>(include_str!("data/image.json"));
    check::<Info>(include_str!("data/info.json"));
    check::<VersionAnswer>(include_str!("data/version.json"));
}

#[test]
fn an_unknown_value_of_an_enumeration_fails_nothing() {
    let task = json!({ "ID": "t", "DesiredState": "hibernated" });
    let read: Task = serde_json::from_value(task.clone()).expect("reads");
    assert_eq!(read.desired_state, TaskState::Other("hibernated".to_owned()));
    assert_eq!(tidy(there_and_back::<Task>(&task)), task);
}

/// Puts a field into the `n`th object of the tree.
fn plant(value: &mut Value, n: &mut usize, key: &str, content: &str) -> bool {
    match value {
        Value::Object(map) => {
            if *n == 0 {
                map.insert(key.to_owned(), json!(content));
                return true;
            }
            *n -= 1;
            map.values_mut().any(|value| plant(value, n, key, content))
        }
        Value::Array(list) => list.iter_mut().any(|value| plant(value, n, key, content)),
        _ => false,
    }
}

proptest! {
    #[test]
    fn an_unknown_field_anywhere_in_a_service_survives(
        place in 0usize..40, key in "[A-Z][a-z]{3,9}X", content in "[a-z]{1,9}"
    ) {
        let mut service: Value = serde_json::from_str(SERVICES).expect("is JSON");
        plant(&mut service, &mut place.clone(), &key, &content);
        let one = service[0].clone();
        prop_assert_eq!(tidy(there_and_back::<Service>(&one)), tidy(one));
    }

    #[test]
    fn an_unknown_field_anywhere_in_a_task_survives(
        place in 0usize..30, key in "[A-Z][a-z]{3,9}X", content in "[a-z]{1,9}"
    ) {
        let mut tasks: Value = serde_json::from_str(TASKS).expect("is JSON");
        plant(&mut tasks, &mut place.clone(), &key, &content);
        let one = tasks[0].clone();
        prop_assert_eq!(tidy(there_and_back::<Task>(&one)), tidy(one));
    }
}
