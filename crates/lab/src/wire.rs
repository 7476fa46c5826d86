//! The lab's network: a bridge, and per node a namespace joined to it by a veth pair.

use std::{net::Ipv4Addr, path::Path};

use crate::{
    Error,
    node::Node,
    record::Record,
    run::{command, run},
};

/// The network the labs take theirs from is 10.200.0.0 to 10.249.255.255: Docker gives overlay
/// networks the lower part of 10.0.0.0/8.
const SECOND: std::ops::Range<u8> = 200..250;

/// A /24 that neither this machine nor another lab uses.
pub fn free_network(taken: &[Record]) -> Result<Ipv4Addr, Error> {
    let addresses = run(&["ip", "-4", "-o", "address"])?;
    let routes = run(&["ip", "-4", "route", "show", "table", "all"])?;
    let used: Vec<(u32, u32)> =
        addresses.split_whitespace().chain(routes.split_whitespace()).filter_map(range).collect();
    // Different processes begin at different places.
    let from = std::process::id() as usize;
    let all = SECOND.flat_map(|b| (0..=u8::MAX).map(move |c| Ipv4Addr::new(10, b, c, 0)));
    let all: Vec<Ipv4Addr> = all.collect();
    let mut candidates = (0..all.len()).map(|at| all[(from + at) % all.len()]);
    let is_free = |network: &Ipv4Addr| {
        let (first, last) = (u32::from(*network), u32::from(*network) + 255);
        used.iter().all(|(low, high)| *high < first || last < *low)
            && taken.iter().all(|record| record.network != *network)
    };
    candidates.find(is_free).ok_or(Error::NoNetwork)
}

/// First and last address of `a.b.c.d` or `a.b.c.d/bits`; the default route counts for nothing.
fn range(word: &str) -> Option<(u32, u32)> {
    let (address, bits) = word.split_once('/').unwrap_or((word, "32"));
    let (address, bits): (Ipv4Addr, u32) = (address.parse().ok()?, bits.parse().ok()?);
    if !(1..=32).contains(&bits) {
        return None;
    }
    let mask = u32::MAX << (32 - bits);
    Some((u32::from(address) & mask, u32::from(address) | !mask))
}

pub fn bridge(record: &Record) -> String {
    format!("{}b", record.name)
}

/// The end of a node's cable at the bridge.
pub fn port(record: &Record, node: usize) -> String {
    format!("{}v{node}", record.name)
}

/// Traffic inside the lab passes, traffic to anywhere else is refused at once.
fn rules(bridge: &str) -> [[String; 7]; 2] {
    let rule = |words: [&str; 7]| words.map(str::to_owned);
    [
        rule(["-i", bridge, "-o", bridge, "-j", "ACCEPT", ""]),
        rule(["-i", bridge, "!", "-o", bridge, "-j", "REJECT"]),
    ]
}

fn each_rule(record: &Record, verb: &str, mut then: impl FnMut(Result<String, Error>)) {
    for rule in rules(&bridge(record)) {
        let mut words = vec!["iptables", "-w", "10", verb, "FORWARD"];
        words.extend(rule.iter().map(String::as_str).filter(|word| !word.is_empty()));
        then(run(&words));
    }
}

pub fn make_bridge(record: &Record) -> Result<(), Error> {
    let bridge = bridge(record);
    run(&["ip", "link", "add", &bridge, "type", "bridge"]).map_err(lacks("bridges"))?;
    let address = format!("{}/24", record.address(1));
    run(&["ip", "address", "add", &address, "dev", &bridge])?;
    run(&["ip", "link", "set", &bridge, "up"])?;
    let mut result = Ok(());
    each_rule(record, "-I", |done| {
        if let Err(error) = done {
            result = Err(error);
        }
    });
    result
}

/// A node's namespace with its own address and default route.
pub fn make_node(record: &Record, node: &Node) -> Result<(), Error> {
    let (space, port) = (node.namespace.as_str(), port(record, node.index));
    run(&["ip", "netns", "add", space]).map_err(lacks("network namespaces"))?;
    let pair = ["ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", space];
    run(&pair).map_err(lacks("veth pairs"))?;
    run(&["ip", "link", "set", &port, "master", &bridge(record), "up"])?;
    let inside = |words: &[&str]| run(&[&["ip", "-n", space], words].concat()).map(drop);
    inside(&["link", "set", "lo", "up"])?;
    inside(&["address", "add", &format!("{}/24", node.address), "dev", "eth0"])?;
    inside(&["link", "set", "eth0", "up"])?;
    inside(&["route", "add", "default", "via", &record.address(1).to_string()])?;
    inside(&["link", "add", "probe", "type", "vxlan", "id", "1", "dstport", "4789"])
        .map_err(lacks("VXLAN"))?;
    inside(&["link", "delete", "probe"])?;
    refuse_outside(record, node)
}

/// Whatever leaves the lab fails at once: the daemon's look-up of a registry's name, which would
/// take 20 s otherwise, and the pull itself.
fn refuse_outside(record: &Record, node: &Node) -> Result<(), Error> {
    let (path, network) = (node.namespace_path(), format!("{}/24", record.network));
    let enter = format!("--net={}", path.display());
    let words = ["nsenter", &enter, "--", "iptables", "-w", "10", "-A", "OUTPUT", "-o", "eth0"];
    let rest = ["!", "-d", &network, "-j", "REJECT"];
    run(&[words.as_slice(), &rest].concat()).map(drop)
}

fn lacks(feature: &'static str) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Command { said, .. }
            if said.contains("not supported") || said.contains("Unknown device type") =>
        {
            Error::Kernel { feature, said }
        }
        error => error,
    }
}

/// Takes a node's namespace and cable away, whatever is left of them.
pub fn remove_node(record: &Record, node: &Node) {
    // What is not there need not go; `leftovers` judges.
    let _ = run(&["ip", "netns", "delete", &node.namespace]);
    let _ = run(&["ip", "link", "delete", &port(record, node.index)]);
}

pub fn remove_bridge(record: &Record) {
    each_rule(record, "-D", |_| ());
    let _ = run(&["ip", "link", "delete", &bridge(record)]);
}

/// What is still there of the lab's network.
pub fn leftovers(record: &Record) -> Result<Vec<String>, Error> {
    let begins = |word: &str| {
        let rest = word.strip_prefix(record.name.as_str());
        rest.is_some_and(|rest| rest.starts_with(['b', 'v', 'n']))
    };
    let mut found = Vec::new();
    for (what, words) in [
        ("device", &["ip", "-o", "-br", "link"] as &[&str]),
        ("namespace", &["ip", "netns", "list"]),
        ("rule with", &["iptables", "-w", "10", "-S", "FORWARD"]),
    ] {
        let listed = run(words)?;
        let names = listed.split(|c: char| c.is_whitespace() || c == '@');
        found.extend(names.filter(|word| begins(word)).map(|name| format!("{what} {name}")));
    }
    Ok(found)
}

/// Pulls a node's cable, or plugs it in.
pub fn set_cable(record: &Record, node: usize, state: &str) -> Result<(), Error> {
    run(&["ip", "link", "set", &port(record, node), state]).map(drop)
}

/// A command that will run in this namespace.
pub fn enter(namespace: &Path) -> std::process::Command {
    let mut entered = command("nsenter");
    entered.arg(format!("--net={}", namespace.display())).arg("--");
    entered
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_network_is_the_range_from_its_first_to_its_last_address() {
        let whole = |a: u32, b: u32| Some((a, b));
        assert_eq!(range("10.1.2.3/24"), whole(0x0a01_0200, 0x0a01_02ff));
        assert_eq!(range("10.1.2.3"), whole(0x0a01_0203, 0x0a01_0203));
        assert_eq!(range("0.0.0.0/0"), None);
        assert_eq!(range("dev"), None);
        assert_eq!(range("10.1.2.3/33"), None);
    }
}
