//! Published ports, short and long.

use super::{Published, Reader};
use crate::model::Port;
use crate::tree::{Kind, Node};

/// Most ports one range may make.
const LARGEST_RANGE: u16 = 1000;

impl Reader<'_> {
    pub fn ports(&mut self, node: &Node, name: &str) -> Option<Vec<Port>> {
        let mut all = Vec::new();
        for item in self.items(node, name) {
            let expected = "a port such as `80:8080`";
            let ports = match item.kind {
                Kind::Scalar(_) => self.quantity(item, "ports[]", expected, short_form),
                Kind::Map(_) => self.long_port(item).map(|port| vec![port]),
                Kind::Null | Kind::Seq(_) => self.expected(item, "ports[]", expected),
            };
            let ports = ports.unwrap_or_default();
            self.published.extend(ports.iter().filter_map(|port| {
                Some(Published {
                    port: port.published?,
                    protocol: port.protocol.clone(),
                    mode: port.mode.clone(),
                    service: self.service.clone(),
                    span: item.span,
                })
            }));
            let address = ports.first().and_then(|port| port.host_ip.as_deref());
            if let Some(address) = address.filter(|a| !["0.0.0.0", "::"].contains(a)) {
                let message = format!(
                    "a swarm publishes on every address of the node, not only on {address}"
                );
                self.sink.warn(item.span, "host-address", message);
            }
            all.extend(ports);
        }
        Some(all)
    }

    fn long_port(&mut self, map: &Node) -> Option<Port> {
        let Some(target) = map.get("target") else {
            self.sink.error(map.span, "missing-key", "a port has no `target`");
            return None;
        };
        let target = self.quantity(target, "target", "a port", port_number)?;
        let published = match map.get("published") {
            Some(node) => Some(self.quantity(node, "published", "a port", port_number)?),
            None => None,
        };
        let protocols = ["tcp", "udp", "sctp"];
        let protocol = self.field(map, "protocol", |r, n, name| r.choice(n, name, &protocols));
        let mode = self.field(map, "mode", |r, n, name| r.choice(n, name, &["ingress", "host"]));
        Some(Port {
            target,
            published,
            protocol: protocol.unwrap_or_else(|| "tcp".to_string()),
            mode: mode.unwrap_or_else(|| "ingress".to_string()),
            app_protocol: self.field(map, "app_protocol", Reader::app_protocol),
            host_ip: self.field(map, "host_ip", Reader::word),
        })
    }

    /// `http` or `tcp`; anything else is passed through as TCP.
    fn app_protocol(&mut self, node: &Node, name: &str) -> Option<String> {
        let text = self.word(node, name)?.to_lowercase();
        if matches!(text.as_str(), "http" | "tcp" | "tcp+proxy") {
            return Some(text);
        }
        let message =
            format!("`{text}` is passed through as `tcp`: only `http` and `tcp+proxy` mean more");
        self.sink.warn(node.span, "app-protocol", message);
        Some("tcp".to_string())
    }
}

/// `[[address:]published:]target[/protocol]`, where ports may be ranges of equal length.
fn short_form(text: &str) -> Result<Vec<Port>, String> {
    let text = text.trim();
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("`{protocol}` is not a protocol, one of tcp, udp, sctp is"));
    }
    let (before, target) = match ports.rsplit_once(':') {
        Some((before, target)) => (Some(before), target),
        None => (None, ports),
    };
    let (address, published) = match before.and_then(|before| before.rsplit_once(':')) {
        Some((address, published)) => (Some(address.trim_matches(['[', ']'])), Some(published)),
        None => (None, before),
    };
    if address.is_some_and(|a| a.parse::<std::net::IpAddr>().is_err()) {
        return Err(
            "expected `published:target`, with an address of the host in front at most".into()
        );
    }
    let targets = range(target)?;
    let published = match published {
        None | Some("") => None,
        Some(published) => Some(range(published)?),
    };
    if let Some(published) = &published
        && published.len() != targets.len()
    {
        return Err(format!(
            "{} published ports cannot stand for {} target ports",
            published.len(),
            targets.len()
        ));
    }
    let numbered = targets.into_iter().enumerate();
    let ports = numbered.map(|(at, target)| Port {
        target,
        published: published.as_ref().and_then(|p| p.get(at).copied()),
        protocol: protocol.clone(),
        mode: "ingress".to_string(),
        app_protocol: None,
        host_ip: address.map(str::to_string),
    });
    Ok(ports.collect())
}

fn range(text: &str) -> Result<Vec<u16>, String> {
    let Some((first, last)) = text.split_once('-') else { return Ok(vec![port_number(text)?]) };
    let (first, last) = (port_number(first)?, port_number(last)?);
    if last < first {
        return Err(format!("the range {first}-{last} runs backwards"));
    }
    if last - first >= LARGEST_RANGE {
        return Err(format!("the range {first}-{last} has more than {LARGEST_RANGE} ports"));
    }
    Ok((first..=last).collect())
}

fn port_number(text: &str) -> Result<u16, String> {
    let port = text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("`{text}` is not a port from 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::short_form;

    fn pairs(text: &str) -> Vec<(Option<u16>, u16)> {
        short_form(text).unwrap().iter().map(|p| (p.published, p.target)).collect()
    }

    #[test]
    fn every_short_form_of_a_port_is_understood() {
        assert_eq!(pairs("80"), [(None, 80)]);
        assert_eq!(pairs("80:8080"), [(Some(80), 8080)]);
        assert_eq!(pairs("22:22"), [(Some(22), 22)]);
        assert_eq!(pairs("3000-3001"), [(None, 3000), (None, 3001)]);
        assert_eq!(pairs("9000-9001:80-81/udp"), [(Some(9000), 80), (Some(9001), 81)]);
        let local = &short_form("127.0.0.1:80:8080").unwrap()[0];
        assert_eq!(local.host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(short_form("[::1]:80:8080").unwrap()[0].host_ip.as_deref(), Some("::1"));
        assert_eq!(short_form("127.0.0.1::8080").unwrap()[0].published, None);
    }

    #[test]
    fn a_port_that_cannot_be_says_why() {
        for text in
            ["", "0", "65536", "a:80", "80:8080/quic", "1-3:80", "90-80", "host:80:80", "1-9999"]
        {
            assert!(short_form(text).is_err(), "{text}");
        }
    }
}
