//! Networks, configs and secrets of a stack, and the specs that refer to them by id.

use std::collections::BTreeMap;

use dockerapi::{Client, client::Kind};
use serde_json::{Value, json};

use super::{Wanted, named};
use crate::error::Error;

/// Ids by name.
struct Known {
    networks: BTreeMap<String, String>,
    configs: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

async fn known(client: &Client) -> Result<Known, Error> {
    let ids = |list: Vec<Value>, id: &str, name: &str| -> BTreeMap<String, String> {
        list.iter()
            .filter_map(|object| {
                let name = object.pointer(name)?.as_str()?.to_owned();
                Some((name, object.get(id)?.as_str()?.to_owned()))
            })
            .collect()
    };
    Ok(Known {
        networks: ids(client.networks(&[]).await?, "Id", "/Name"),
        configs: ids(client.blobs(Kind::Config, &[]).await?, "ID", "/Spec/Name"),
        secrets: ids(client.blobs(Kind::Secret, &[]).await?, "ID", "/Spec/Name"),
    })
}

/// The specs with the ids that are known now; what is still to be created keeps its name.
pub(super) async fn resolved(
    client: &Client,
    wanted: &Wanted,
) -> Result<Vec<(String, Value)>, Error> {
    let known = known(client).await?;
    let mut services = named(&wanted.lowered);
    services.iter_mut().for_each(|(_, spec)| resolve(spec, &known));
    Ok(services)
}

/// Creates what is missing, then resolves.
pub(super) async fn create(
    client: &Client,
    wanted: &Wanted,
) -> Result<Vec<(String, Value)>, Error> {
    let there = known(client).await?;
    let external = &wanted.lowered.external;
    let absent = [
        (&external.networks, &there.networks, "network"),
        (&external.configs, &there.configs, "config"),
        (&external.secrets, &there.secrets, "secret"),
    ]
    .into_iter()
    .find_map(|(names, known, kind)| {
        Some((kind, names.iter().find(|name| !known.contains_key(*name))?))
    });
    if let Some((kind, name)) = absent {
        let text = format!("the external {kind} `{name}` does not exist");
        return Err(Error::new("external-missing", text)
            .hint(format!("create it first: `docker {kind} create {name}`")));
    }
    let name_of = |body: &Value| body["Name"].as_str().unwrap_or("").to_owned();
    for body in wanted.lowered.networks.iter().filter(|b| !there.networks.contains_key(&name_of(b)))
    {
        client.create_network(body).await?;
    }
    for body in wanted.lowered.secrets.iter().filter(|b| !there.secrets.contains_key(&name_of(b))) {
        client.create_blob(Kind::Secret, body).await?;
    }
    for body in wanted.lowered.configs.iter().filter(|b| !there.configs.contains_key(&name_of(b))) {
        client.create_blob(Kind::Config, body).await?;
    }
    resolved(client, wanted).await
}

fn resolve(spec: &mut Value, known: &Known) {
    let template = &mut spec["TaskTemplate"];
    for network in template.get_mut("Networks").and_then(Value::as_array_mut).into_iter().flatten()
    {
        let target = network["Target"].as_str().and_then(|name| known.networks.get(name));
        if let Some(id) = target {
            network["Target"] = json!(id);
        }
    }
    let container = &mut template["ContainerSpec"];
    for (list, name, id, ids) in [
        ("Secrets", "SecretName", "SecretID", &known.secrets),
        ("Configs", "ConfigName", "ConfigID", &known.configs),
    ] {
        for reference in container.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
        {
            let known = reference[name].as_str().and_then(|name| ids.get(name));
            if let Some(known) = known {
                reference[id] = json!(known);
            }
        }
    }
}
