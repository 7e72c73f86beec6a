//! What a person wants beside the fields as they are on the wire: addresses as addresses, and what
//! our own messages say.

use super::ours;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// Fields of bytes that are an address, the field of its port, and what both are called together.
const ADDRESSES: [(&str, &str, &str); 3] = [
    ("Addr", "Port", "Address"),
    ("SourceAddr", "SourcePort", "SourceAddress"),
    ("Target", "Port", "TargetAddress"),
];
/// Fields that may carry a message of ours.
const PAYLOADS: [&str; 2] = ["payload", "user_state"];

/// The objects with addresses in them, and behind each one that carries a message of ours what that
/// says.
pub(super) fn complete(objects: Vec<Value>) -> Vec<Value> {
    let mut completed = Vec::with_capacity(objects.len());
    for mut object in objects {
        add_addresses(&mut object);
        if let Some(nodes) = object.get_mut("nodes").and_then(Value::as_array_mut) {
            nodes.iter_mut().for_each(add_addresses);
        }
        let carried = PAYLOADS.iter().find_map(|field| bytes(object.get(*field)?));
        completed.push(object);
        completed.extend(carried.and_then(|payload| ours::explain(&payload)));
    }
    completed
}

fn add_addresses(object: &mut Value) {
    for (ip, port, name) in ADDRESSES {
        let ip = object.get(ip).and_then(|ip| address(&bytes(ip)?));
        let port = object.get(port).and_then(Value::as_u64).and_then(|port| port.try_into().ok());
        if let (Some(ip), Some(port)) = (ip, port) {
            object[name] = SocketAddr::new(ip, port).to_string().into();
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|ip| IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

/// The bytes of a field that reads `hex:..`.
fn bytes(field: &Value) -> Option<Vec<u8>> {
    super::unhex(field.as_str()?.strip_prefix("hex:")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_told_beside_their_bytes() {
        let completed = complete(vec![
            json!({ "type": "alive", "Addr": "hex:0a000001", "Port": 7947 }),
            json!({ "type": "pushPull", "nodes": [{ "Addr": "hex:00", "Port": 1 }] }),
            json!({ "type": "ping", "SourceAddr": null, "SourcePort": 0 }),
        ]);
        assert_eq!(completed[0]["Address"], "10.0.0.1:7947");
        assert_eq!(completed[0]["Addr"], "hex:0a000001");
        assert_eq!(completed[1]["nodes"][0].get("Address"), None);
        assert_eq!(completed[2].get("SourceAddress"), None);
    }
}
