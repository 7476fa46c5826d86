//! Services and their tasks, which do at once what the test said of their image.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What becomes of a service's tasks with this image.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Behaviour {
    /// They run; the update is completed by the second look.
    #[default]
    Good,
    /// They fail; the engine goes back by itself by the second look.
    RollsBack(&'static str),
    /// They fail; the engine stops in the middle.
    Pauses(&'static str),
    /// They start for ever.
    Hangs,
}

struct Service {
    id: String,
    index: u64,
    spec: Value,
    previous: Option<Value>,
    status: Option<Value>,
    /// What happens at the next look.
    next: Option<(Value, Value)>,
}

#[derive(Default)]
pub struct Swarm {
    services: Vec<Service>,
    tasks: Vec<Value>,
    /// Configs, secrets and networks.
    pub objects: BTreeMap<&'static str, Vec<Value>>,
    /// Name → id.
    pub images: BTreeMap<String, String>,
    pub behaviours: BTreeMap<String, Behaviour>,
    pub writes: Vec<String>,
    /// Connections to end before they are answered.
    pub cuts: u32,
    index: u64,
}

fn image(spec: &Value) -> &str {
    spec.pointer("/TaskTemplate/ContainerSpec/Image").and_then(Value::as_str).unwrap_or("")
}

fn replicas(spec: &Value) -> u64 {
    spec.pointer("/Mode/Replicated/Replicas").and_then(Value::as_u64).unwrap_or(1)
}

impl Swarm {
    pub fn next_index(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    pub fn is_cut(&mut self) -> bool {
        let is_cut = self.cuts > 0;
        self.cuts = self.cuts.saturating_sub(1);
        is_cut
    }

    pub fn add_images(&mut self, names: &[&str]) {
        for name in names {
            let id = format!("sha256:{:0>64}", name.bytes().map(|b| format!("{b:02x}")).collect::<String>());
            self.images.insert((*name).to_owned(), id);
        }
    }

    /// Takes the names out of an archive's `manifest.json`.
    pub fn load(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let mut names = Vec::new();
        for entry in archive.entries().expect("a tar") {
            let entry = entry.expect("an entry");
            if entry.path().expect("a path").to_string_lossy() != "manifest.json" {
                continue;
            }
            let manifest: Value = serde_json::from_reader(entry).expect("JSON");
            for image in manifest.as_array().expect("a list") {
                let config = image["Config"].as_str().expect("a config");
                let id = config.rsplit('/').next().expect("a name").trim_end_matches(".json");
                for tag in image["RepoTags"].as_array().expect("tags") {
                    let tag = tag.as_str().expect("text").to_owned();
                    self.images.insert(tag.clone(), format!("sha256:{id}"));
                    names.push(tag);
                }
            }
        }
        names
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.services.iter().position(|s| s.id == name || s.spec["Name"] == name)
    }

    pub fn id_of(&self, name: &str) -> Option<String> {
        self.find(name).map(|at| self.services[at].id.clone())
    }

    /// A path with names in place of service ids.
    pub fn with_names(&self, path: &str) -> String {
        self.services.iter().fold(path.to_owned(), |path, service| {
            path.replace(&service.id, service.spec["Name"].as_str().expect("a name"))
        })
    }

    fn shown(service: &Service) -> Value {
        let mut shown = json!({
            "ID": service.id,
            "Version": { "Index": service.index },
            "CreatedAt": "2026-01-01T00:00:00Z",
            "UpdatedAt": "2026-01-01T00:00:00Z",
            "Spec": service.spec,
            "Endpoint": { "Spec": service.spec["EndpointSpec"], "Ports": service.spec["EndpointSpec"]["Ports"] },
        });
        if let Some(status) = &service.status {
            shown["UpdateStatus"] = status.clone();
        }
        if let Some(previous) = &service.previous {
            shown["PreviousSpec"] = previous.clone();
        }
        shown
    }

    pub fn services(&self) -> Vec<Value> {
        self.services.iter().map(Self::shown).collect()
    }

    pub fn spec(&self, name: &str) -> Option<Value> {
        self.find(name).map(|at| self.services[at].spec.clone())
    }

    /// One look: what was under way is over at the next one.
    pub fn read_service(&mut self, name: &str) -> Option<Value> {
        let at = self.find(name)?;
        let shown = Self::shown(&self.services[at]);
        if let Some((status, spec)) = self.services[at].next.take() {
            let index = self.next_index();
            let service = &mut self.services[at];
            (service.status, service.index) = (Some(status), index);
            if service.spec != spec {
                service.spec = spec;
                self.fill(at);
            }
        }
        Some(shown)
    }

    pub fn tasks(&self) -> Vec<Value> {
        self.tasks.clone()
    }

    pub fn task(&self, id: &str) -> Option<Value> {
        self.tasks.iter().find(|task| task["ID"] == id).cloned()
    }

    pub fn is_up_to_date(&self, task: &Value) -> bool {
        let id = task["ServiceID"].as_str().expect("an id");
        self.find(id).is_some_and(|at| self.services[at].spec["TaskTemplate"] == task["Spec"])
    }

    pub fn create_service(&mut self, spec: &Value) -> Result<String, (u16, String)> {
        let name = spec["Name"].as_str().expect("a name");
        if self.find(name).is_some() {
            let text = "rpc error: code = AlreadyExists desc = name conflicts with an existing";
            return Err((409, format!("{text} object: service {name} already exists")));
        }
        let index = self.next_index();
        let id = format!("svc{index:022}");
        let (spec, id_of) = (spec.clone(), id.clone());
        self.services.push(Service { id, index, spec, previous: None, status: None, next: None });
        self.fill(self.services.len() - 1);
        Ok(id_of)
    }

    pub fn update_service(
        &mut self,
        name: &str,
        version: u64,
        spec: &Value,
    ) -> Result<(), (u16, String)> {
        let at = self.find(name).ok_or((404, format!("service {name} not found")))?;
        if self.services[at].index != version {
            let text = "rpc error: code = Unknown desc = update out of sequence";
            return Err((500, text.to_owned()));
        }
        let index = self.next_index();
        let service = &mut self.services[at];
        let old = std::mem::replace(&mut service.spec, spec.clone());
        (service.index, service.next, service.status) = (index, None, None);
        let is_dirty = old["TaskTemplate"] != spec["TaskTemplate"]
            || old["EndpointSpec"] != spec["EndpointSpec"];
        service.previous = Some(old.clone());
        if is_dirty {
            self.roll(at, old);
        } else {
            self.fill(at);
        }
        Ok(())
    }

    pub fn remove_service(&mut self, name: &str) -> bool {
        let Some(at) = self.find(name) else { return false };
        let service = self.services.remove(at);
        self.tasks.retain(|task| task["ServiceID"] != service.id.as_str());
        true
    }

    fn status(state: &str, message: &str) -> Value {
        let at = "2026-01-01T00:00:00Z";
        json!({ "State": state, "Message": message, "StartedAt": at })
    }

    fn roll(&mut self, at: usize, old: Value) {
        let spec = self.services[at].spec.clone();
        let behaviour = self.behaviours.get(image(&spec)).cloned().unwrap_or_default();
        let updating = Self::status("updating", "update in progress");
        self.services[at].status = Some(updating);
        match behaviour {
            Behaviour::Good => {
                self.fill(at);
                let done = Self::status("completed", "update completed");
                self.services[at].next = Some((done, spec));
            }
            Behaviour::RollsBack(error) => {
                let task = self.add_task(at, 1, "failed", "shutdown", Some(error));
                let why = "update rolled back due to failure or early termination of task";
                let back = Self::status("rollback_completed", &format!("{why} {task}"));
                self.services[at].next = Some((back, old));
            }
            Behaviour::Pauses(error) => {
                let task = self.add_task(at, 1, "failed", "shutdown", Some(error));
                let why = "update paused due to failure or early termination of task";
                self.services[at].status = Some(Self::status("paused", &format!("{why} {task}")));
            }
            Behaviour::Hangs => {
                self.add_task(at, 1, "starting", "running", None);
            }
        }
    }

    /// As many running tasks of the spec as it wants, and no others.
    fn fill(&mut self, at: usize) {
        let (id, spec) = (self.services[at].id.clone(), self.services[at].spec.clone());
        let wanted = replicas(&spec);
        for task in &mut self.tasks {
            let is_live = task["DesiredState"] == "running" && task["ServiceID"] == id.as_str();
            let is_wanted = task["Spec"] == spec["TaskTemplate"]
                && task["Slot"].as_u64().is_some_and(|slot| slot <= wanted);
            if is_live && !is_wanted {
                task["DesiredState"] = json!("shutdown");
                task["Status"]["State"] = json!("shutdown");
            }
        }
        let hangs = self.behaviours.get(image(&spec)) == Some(&Behaviour::Hangs);
        for slot in 1..=wanted {
            let is_filled = self.tasks.iter().any(|task| {
                task["DesiredState"] == "running"
                    && task["ServiceID"] == id.as_str()
                    && task["Slot"] == slot
            });
            if !is_filled {
                let state = if hangs { "starting" } else { "running" };
                self.add_task(at, slot, state, "running", None);
            }
        }
    }

    fn add_task(
        &mut self,
        at: usize,
        slot: u64,
        state: &str,
        desired: &str,
        error: Option<&str>,
    ) -> String {
        let index = self.next_index();
        let id = format!("task{index:021}");
        let service = &self.services[at];
        self.tasks.push(json!({
            "ID": id, "ServiceID": service.id, "Slot": slot, "NodeID": "n1",
            "Version": { "Index": index },
            "CreatedAt": format!("2026-01-01T00:00:{:02}Z", index % 60),
            "Spec": service.spec["TaskTemplate"],
            "Status": {
                "State": state, "Message": "started", "Err": error.unwrap_or(""),
                "Timestamp": "2026-01-01T00:00:00Z",
            },
            "DesiredState": desired,
        }));
        id
    }
}
