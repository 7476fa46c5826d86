//! What an endpoint is told before a client's own bytes: PROXY protocol, version 2, as binary as
//! <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt> (section 2.2) has it. Pure.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, on behalf of a client.
const PROXY: u8 = 0x21;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

/// Who connected, and to which of our addresses.
pub(crate) fn proxy_v2(client: SocketAddr, ours: SocketAddr) -> Vec<u8> {
    let mut text = SIGNATURE.to_vec();
    text.push(PROXY);
    // A v4 client of a v6 socket is a v4 client.
    match (client.ip().to_canonical(), ours.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(ours)) => {
            text.extend_from_slice(&[TCP_V4, 0, 12]);
            text.extend_from_slice(&client.octets());
            text.extend_from_slice(&ours.octets());
        }
        (client, ours) => {
            let wide = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            text.extend_from_slice(&[TCP_V6, 0, 36]);
            text.extend_from_slice(&wide(client));
            text.extend_from_slice(&wide(ours));
        }
    }
    text.extend_from_slice(&client.port().to_be_bytes());
    text.extend_from_slice(&ours.port().to_be_bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(client: &str, ours: &str) -> Vec<u8> {
        let parsed = |text: &str| text.parse().expect("an address");
        proxy_v2(parsed(client), parsed(ours))
    }

    #[test]
    fn a_v4_client_is_told_in_28_bytes_also_behind_a_v6_socket() {
        let text = told("192.0.2.7:4660", "198.51.100.1:5432");
        assert_eq!(text[..12], SIGNATURE);
        assert_eq!(text[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(text[16..24], [192, 0, 2, 7, 198, 51, 100, 1]);
        assert_eq!(text[24..], [0x12, 0x34, 0x15, 0x38]);
        assert_eq!(told("[::ffff:192.0.2.7]:4660", "[::ffff:198.51.100.1]:5432"), text);
    }

    #[test]
    fn a_v6_client_is_told_in_52_bytes() {
        let text = told("[2001:db8::7]:1", "[2001:db8::1]:2");
        assert_eq!(text[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!((text.len(), text[16], text[31], text[47]), (52, 0x20, 7, 1));
        assert_eq!(text[48..], [0, 1, 0, 2]);
    }
}
