//! The counters of everything, as JSON.

use serde_json::{Value, json};

use super::Server;
use crate::stats::Sum;

impl Server {
    pub(super) fn stats(&self) -> Value {
        let pools = self.table.pools();
        let services: Vec<Value> = pools
            .iter()
            .map(|(service, pool)| {
                let mut sum = Sum::default();
                pool.counters.add_to(&mut sum);
                let mut endpoints = Vec::new();
                for endpoint in pool.endpoints().iter() {
                    let mut own = Sum::default();
                    endpoint.counters.add_to(&mut own);
                    endpoint.counters.add_to(&mut sum);
                    let mut shown = own.json();
                    shown["task"] = json!(endpoint.about.task);
                    shown["name"] = json!(endpoint.about.task_name);
                    shown["release"] = json!(endpoint.about.release);
                    shown["state"] = json!(endpoint.state());
                    shown["in_flight"] = json!(endpoint.in_flight());
                    shown["upgraded"] = json!(endpoint.upgraded());
                    shown["relayed"] = json!(endpoint.relayed());
                    endpoints.push(shown);
                }
                let mut shown = sum.json();
                shown["service"] = json!(service);
                shown["endpoints"] = json!(endpoints);
                shown
            })
            .collect();
        json!({ "services": services })
    }
}
