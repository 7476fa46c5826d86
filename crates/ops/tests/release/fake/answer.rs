//! The paths of the Docker API that a release uses, and what they answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::swarm::Swarm;

type Answer = Result<(u16, Value), (u16, String)>;
pub type Query = BTreeMap<String, String>;

/// `/v1.47/tasks` is `/tasks`.
pub fn without_version(path: &str) -> String {
    let rest = path.trim_start_matches('/');
    match rest.split_once('/') {
        Some((first, rest)) if first.starts_with('v') && first.contains('.') => format!("/{rest}"),
        _ => path.to_owned(),
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
            let digits = String::from_utf8_lossy(&digits).into_owned();
            bytes.push(u8::from_str_radix(&digits, 16).expect("an escape"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

pub fn query(text: &str) -> Query {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), unescape(value))).collect()
}

/// The values of one filter; none when it was not given.
fn filter(query: &Query, key: &str) -> Option<Vec<String>> {
    let filters: Value = serde_json::from_str(query.get("filters")?).expect("filters are JSON");
    let values = filters.get(key)?.as_object()?.keys().cloned().collect();
    Some(values)
}

fn has_labels(object: &Value, query: &Query) -> bool {
    filter(query, "label").is_none_or(|wanted| {
        wanted.iter().all(|wanted| {
            let (key, value) = wanted.split_once('=').unwrap_or((wanted, ""));
            let labels = object.pointer("/Spec/Labels").or_else(|| object.get("Labels"));
            let found = labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
            found.is_some_and(|found| value.is_empty() || found == value)
        })
    })
}

pub fn answer(
    swarm: &mut Swarm,
    method: &str,
    path: &str,
    query: &Query,
    body: &Value,
    bytes: &[u8],
) -> Answer {
    let parts: Vec<String> = path.trim_matches('/').split('/').map(unescape).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (method, parts.as_slice()) {
        (_, ["_ping"]) => Ok((200, json!("OK"))),
        ("GET", ["info"]) => Ok((200, json!({
            "Swarm": { "LocalNodeState": "active", "ControlAvailable": true, "NodeID": "n1" },
        }))),
        ("GET", ["version"]) => Ok((200, json!({ "Version": "0", "ApiVersion": "1.47" }))),
        ("GET", ["nodes"]) => Ok((200, json!([{
            "ID": "n1", "Status": { "State": "ready" }, "Spec": { "Availability": "active" },
        }]))),
        (_, ["services", rest @ ..]) => services(swarm, method, rest, query, body),
        ("GET", ["tasks"]) => Ok((200, tasks(swarm, query))),
        ("GET", ["tasks", id]) => swarm.task(id).map_or_else(|| missing("task", id), |t| Ok((200, t))),
        ("GET", ["tasks", _, "logs"]) => Ok((200, Value::Null)),
        (_, ["configs", rest @ ..]) => blobs(swarm, "config", method, rest, query, body),
        (_, ["secrets", rest @ ..]) => blobs(swarm, "secret", method, rest, query, body),
        (_, ["networks", rest @ ..]) => networks(swarm, method, rest, query, body),
        (_, ["images", rest @ ..]) => images(swarm, method, rest, query, bytes),
        _ => Err((404, "page not found".to_owned())),
    }
}

fn missing(kind: &str, name: &str) -> Answer {
    Err((404, format!("{kind} {name} not found")))
}

fn services(swarm: &mut Swarm, method: &str, rest: &[&str], query: &Query, body: &Value) -> Answer {
    match (method, rest) {
        ("GET", []) => {
            let names = filter(query, "name");
            let all = swarm.services().into_iter().filter(|service| {
                let name = service["Spec"]["Name"].as_str().expect("a name");
                has_labels(service, query)
                    && names.as_ref().is_none_or(|names| names.iter().any(|n| name.starts_with(n.as_str())))
            });
            Ok((200, Value::Array(all.collect())))
        }
        ("GET", [_, "logs"]) => Ok((200, Value::Null)),
        ("GET", [id]) => match swarm.read_service(id) {
            Some(service) => Ok((200, service)),
            None => missing("service", id),
        },
        ("POST", ["create"]) => swarm.create_service(body).map(|id| (201, json!({ "ID": id }))),
        ("POST", [id, "update"]) => {
            let version = query.get("version").and_then(|v| v.parse().ok()).unwrap_or(0);
            swarm.update_service(id, version, body).map(|()| (200, json!({ "Warnings": null })))
        }
        ("DELETE", [id]) => match swarm.remove_service(id) {
            true => Ok((200, Value::Null)),
            false => missing("service", id),
        },
        _ => Err((404, "page not found".to_owned())),
    }
}

fn tasks(swarm: &mut Swarm, query: &Query) -> Value {
    let services = filter(query, "service");
    let up_to_date = filter(query, "_up-to-date").is_some_and(|v| v.iter().any(|v| v == "true"));
    let desired = filter(query, "desired-state");
    let ids = services.map(|wanted| {
        wanted.iter().filter_map(|name| swarm.id_of(name)).collect::<Vec<_>>()
    });
    let labelled = filter(query, "label").is_some().then(|| {
        let services = swarm.services().into_iter().filter(|s| has_labels(s, query));
        services.map(|s| s["ID"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    });
    let tasks = swarm.tasks().into_iter().filter(|task| {
        let service = task["ServiceID"].as_str().expect("an id").to_owned();
        ids.as_ref().is_none_or(|ids| ids.contains(&service))
            && labelled.as_ref().is_none_or(|ids| ids.contains(&service))
            && (!up_to_date || swarm.is_up_to_date(task))
            && desired.as_ref().is_none_or(|wanted| {
                wanted.iter().any(|wanted| task["DesiredState"] == wanted.as_str())
            })
    });
    Value::Array(tasks.collect())
}

fn blobs(
    swarm: &mut Swarm,
    kind: &'static str,
    method: &str,
    rest: &[&str],
    query: &Query,
    body: &Value,
) -> Answer {
    let matches = |object: &Value, name: &str| object["ID"] == name || object["Spec"]["Name"] == name;
    let version = swarm.next_index();
    let list = swarm.objects.entry(kind).or_default();
    match (method, rest) {
        ("GET", []) => {
            let found = list.iter().filter(|object| has_labels(object, query)).cloned();
            Ok((200, Value::Array(found.collect())))
        }
        ("POST", ["create"]) => {
            let name = body["Name"].as_str().expect("a name");
            if list.iter().any(|object| matches(object, name)) {
                let text = "rpc error: code = AlreadyExists desc =";
                return Err((409, format!("{text} {kind} {name} already exists")));
            }
            let id = format!("{kind}{version}");
            let object = json!({ "ID": id, "Version": { "Index": version }, "Spec": body });
            list.push(object);
            Ok((201, json!({ "ID": id })))
        }
        (_, [name, ..]) => {
            let Some(at) = list.iter().position(|object| matches(object, name)) else {
                return missing(kind, name);
            };
            match (method, &rest[1..]) {
                ("GET", []) => Ok((200, list[at].clone())),
                ("POST", ["update"]) => {
                    let known = list[at]["Version"]["Index"].as_u64();
                    if query.get("version").and_then(|v| v.parse().ok()) != known {
                        return Err((500, "update out of sequence".to_owned()));
                    }
                    list[at]["Spec"]["Labels"] = body["Labels"].clone();
                    list[at]["Version"]["Index"] = json!(version);
                    Ok((200, Value::Null))
                }
                ("DELETE", []) => {
                    list.remove(at);
                    Ok((204, Value::Null))
                }
                _ => Err((404, "page not found".to_owned())),
            }
        }
        _ => Err((404, "page not found".to_owned())),
    }
}

fn networks(swarm: &mut Swarm, method: &str, rest: &[&str], query: &Query, body: &Value) -> Answer {
    let version = swarm.next_index();
    let list = swarm.objects.entry("network").or_default();
    match (method, rest) {
        ("GET", []) => {
            let found = list.iter().filter(|object| has_labels(object, query)).cloned();
            Ok((200, Value::Array(found.collect())))
        }
        ("POST", ["create"]) => {
            let id = format!("network{version}");
            let mut object = body.clone();
            object["Id"] = json!(id);
            list.push(object);
            Ok((201, json!({ "Id": id })))
        }
        (_, [name]) => {
            let found = list.iter().position(|n| n["Id"] == *name || n["Name"] == *name);
            let Some(at) = found else { return missing("network", name) };
            if method == "DELETE" {
                list.remove(at);
                return Ok((204, Value::Null));
            }
            Ok((200, list[at].clone()))
        }
        _ => Err((404, "page not found".to_owned())),
    }
}

fn images(swarm: &mut Swarm, method: &str, rest: &[&str], query: &Query, bytes: &[u8]) -> Answer {
    match (method, rest) {
        ("GET", ["json"]) => {
            let list = swarm.images.iter().map(|(name, id)| json!({ "Id": id, "RepoTags": [name] }));
            Ok((200, Value::Array(list.collect())))
        }
        ("POST", ["load"]) => {
            let names = swarm.load(bytes);
            let line = format!("Loaded image: {}\n", names.join(", "));
            Ok((200, json!({ "stream": line })))
        }
        ("GET", [name @ .., "json"]) => {
            let name = name.join("/");
            let found = swarm.images.iter().find(|(known, id)| **known == name || **id == name);
            match found {
                Some((tag, id)) => Ok((200, json!({ "Id": id, "RepoTags": [tag] }))),
                None => Err((404, format!("No such image: {name}"))),
            }
        }
        ("POST", [name @ .., "tag"]) => {
            let name = name.join("/");
            let found = swarm.images.iter().find(|(known, id)| **known == name || **id == name);
            let Some(id) = found.map(|(_, id)| id.clone()) else {
                return Err((404, format!("No such image: {name}")));
            };
            let new = format!("{}:{}", query["repo"], query["tag"]);
            swarm.images.insert(new, id);
            Ok((201, Value::Null))
        }
        ("DELETE", [name @ ..]) => {
            let name = name.join("/");
            match swarm.images.remove(&name) {
                Some(_) => Ok((200, json!([{ "Untagged": name }]))),
                None => Err((404, format!("No such image: {name}"))),
            }
        }
        _ => Err((404, "page not found".to_owned())),
    }
}
