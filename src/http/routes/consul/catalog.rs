//! The members as Consul's catalog has nodes, the service that they are, and its health.
//!
//! ```text
//! catalog/nodes, catalog/node/{name}          who is alive
//! catalog/services, .. /service/{name}        the service `gossipykv`: who of them holds the keys
//! health/service/{name}                       the same, with the node and its check
//! health/node/{name}, health/state/{state}    checks alone; who has failed is critical here
//! ```
//!
//! A member that has failed is in no list that clients choose one of, whether they ask for
//! `passing` or not. The port of the service is that of gossip: members tell no other.

use super::asked::{self, DATACENTER, Query};
use super::index::NOTHING;
use crate::http::failure::Failure;
use crate::http::route::ConsulPart;
use crate::http::watch::roster::is_living;
use crate::node::command::{MemberStatus, MemberView};
use serde_json::{Value, json};
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_128;

/// What the members are together.
const SERVICE: &str = "gossipykv";
/// The states of a check that may be asked for.
const STATES: [&str; 4] = ["any", "passing", "warning", "critical"];

/// Rows that are asked for.
pub(super) struct Wanted<'t> {
    kind: Kind<'t>,
    /// Whether they must have a tag or a meta: none has.
    is_none: bool,
}

enum Kind<'t> {
    Nodes,
    Services,
    Node(Cow<'t, str>),
    Service(Cow<'t, str>),
    HealthOfService(Cow<'t, str>),
    HealthOfNode(Cow<'t, str>),
    HealthByState(Cow<'t, str>),
}

impl<'t> Wanted<'t> {
    /// What a request asks for; `None` when it is about something else.
    ///
    /// # Errors
    /// 400 for a name that spells no text, for a state that no check has, and for a filter.
    pub(super) fn of(
        part: ConsulPart<'t>,
        query: Query<'t>,
    ) -> Result<Option<Wanted<'t>>, Failure> {
        let kind = match part {
            ConsulPart::Nodes => Kind::Nodes,
            ConsulPart::Services => Kind::Services,
            ConsulPart::Node(name) => Kind::Node(asked::name(name)?),
            ConsulPart::Service(name) => Kind::Service(asked::name(name)?),
            ConsulPart::HealthOfService(name) => Kind::HealthOfService(asked::name(name)?),
            ConsulPart::HealthOfNode(name) => Kind::HealthOfNode(asked::name(name)?),
            ConsulPart::HealthByState(name) => Kind::HealthByState(asked::name(name)?),
            _ => return Ok(None),
        };
        if let Kind::HealthByState(state) = &kind
            && !STATES.contains(&&**state)
        {
            let message = format_args!("Invalid check state: it is one of {}", STATES.join(", "));
            return Err(Failure::new(400, message));
        }
        if query.text("filter")?.is_some_and(|filter| !filter.is_empty()) {
            // An answer that passed over it would be of others, too.
            return Err(Failure::new(400, "Invalid filter: there are no filters here"));
        }
        let has = |name| Ok(query.text(name)?.is_some_and(|text| !text.is_empty()));
        let is_tagged = matches!(kind, Kind::Service(_) | Kind::HealthOfService(_)) && has("tag")?;
        Ok(Some(Wanted { kind, is_none: is_tagged || has("node-meta")? }))
    }

    /// Appends the rows as Consul has them, made one after the other: there may be many.
    pub(super) fn write(&self, members: &[MemberView], out: &mut Vec<u8>) {
        let members = if self.is_none { &[] } else { members };
        let living = || members.iter().filter(|member| is_living(member));
        let serving = |name: &str| {
            let is_it = name == SERVICE;
            living().filter(move |member| is_it && member.kv)
        };
        let known = || members.iter().filter(|member| member.state != MemberStatus::Left);
        match &self.kind {
            Kind::Nodes => write_all(out, living().map(node)),
            Kind::Services => write_one(
                out,
                &match serving(SERVICE).next() {
                    Some(_) => json!({ SERVICE: [] }),
                    None => json!({}),
                },
            ),
            Kind::Node(name) => {
                let found = living().find(|member| member.name == **name);
                write_one(out, &found.map_or(Value::Null, node_and_services));
            }
            Kind::Service(name) => write_all(out, serving(name).map(of_catalog)),
            Kind::HealthOfService(name) => write_all(out, serving(name).map(with_checks)),
            Kind::HealthOfNode(name) => {
                write_all(out, known().filter(|member| member.name == **name).map(check));
            }
            Kind::HealthByState(state) => {
                let is_it = |member: &&MemberView| *state == "any" || *state == status(member);
                write_all(out, known().filter(is_it).map(check));
            }
        }
    }
}

fn write_one(out: &mut Vec<u8>, value: &Value) {
    // Plain data always has a JSON form, and a vector takes it.
    let _ = serde_json::to_writer(out, value);
}

fn write_all(out: &mut Vec<u8>, rows: impl Iterator<Item = Value>) {
    out.push(b'[');
    for (n, row) in rows.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_one(out, &row);
    }
    out.push(b']');
}

fn node_and_services(member: &MemberView) -> Value {
    let services = if member.kv { json!({ SERVICE: service(member) }) } else { json!({}) };
    json!({ "Node": node(member), "Services": services })
}

fn with_checks(member: &MemberView) -> Value {
    json!({ "Node": node(member), "Service": service(member), "Checks": [check(member)] })
}

fn node(member: &MemberView) -> Value {
    json!({
        "ID": id(&member.name),
        "Node": member.name,
        "Address": member.address.ip().to_string(),
        "Datacenter": DATACENTER,
        "TaggedAddresses": {},
        "Meta": {},
        "CreateIndex": NOTHING,
        "ModifyIndex": NOTHING,
    })
}

fn service(member: &MemberView) -> Value {
    json!({
        "ID": SERVICE,
        "Service": SERVICE,
        "Tags": [],
        "Address": member.address.ip().to_string(),
        "TaggedAddresses": {},
        "Meta": {},
        "Port": member.address.port(),
        "Weights": { "Passing": 1, "Warning": 1 },
        "EnableTagOverride": false,
        "Proxy": { "Mode": "", "MeshGateway": {}, "Expose": {} },
        "Connect": {},
        "PeerName": "",
        "CreateIndex": NOTHING,
        "ModifyIndex": NOTHING,
    })
}

/// Node and service in one row.
fn of_catalog(member: &MemberView) -> Value {
    let address = member.address.ip().to_string();
    json!({
        "ID": id(&member.name),
        "Node": member.name,
        "Address": address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": {},
        "NodeMeta": {},
        "ServiceKind": "",
        "ServiceID": SERVICE,
        "ServiceName": SERVICE,
        "ServiceTags": [],
        "ServiceAddress": address,
        "ServiceTaggedAddresses": {},
        "ServiceWeights": { "Passing": 1, "Warning": 1 },
        "ServiceMeta": {},
        "ServicePort": member.address.port(),
        "ServiceSocketPath": "",
        "ServiceEnableTagOverride": false,
        "ServiceProxy": { "Mode": "", "MeshGateway": {}, "Expose": {} },
        "ServiceConnect": {},
        "CreateIndex": NOTHING,
        "ModifyIndex": NOTHING,
    })
}

/// Of the one check that each node has: whether the others reach it.
fn check(member: &MemberView) -> Value {
    let output = match is_living(member) {
        true => "Agent alive and reachable",
        false => "Agent not live or unreachable",
    };
    json!({
        "Node": member.name,
        "CheckID": "serfHealth",
        "Name": "Serf Health Status",
        "Status": status(member),
        "Notes": "",
        "Output": output,
        "ServiceID": "",
        "ServiceName": "",
        "ServiceTags": [],
        "Type": "",
        "Interval": "",
        "Timeout": "",
        "ExposedPort": 0,
        "Definition": {},
        "CreateIndex": NOTHING,
        "ModifyIndex": NOTHING,
    })
}

fn status(member: &MemberView) -> &'static str {
    if is_living(member) { "passing" } else { "critical" }
}

/// A name in the form of a UUID, the same on every node.
pub(super) fn id(name: &str) -> String {
    let hex = format!("{:032x}", xxh3_128(name.as_bytes()));
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, state: MemberStatus, kv: bool) -> MemberView {
        MemberView {
            name: name.into(),
            address: "10.0.0.1:7947".parse().unwrap(),
            state,
            incarnation: 1,
            kv,
            formats: None,
            me: false,
            udp_blocked: false,
            tcp_blocked: false,
        }
    }

    fn rows(part: ConsulPart<'_>, query: Option<&str>) -> String {
        let members = [
            view("a b", MemberStatus::Alive, true),
            view("suspect", MemberStatus::Suspect, true),
            view("plain", MemberStatus::Alive, false),
            view("dead", MemberStatus::Dead, true),
            view("left", MemberStatus::Left, true),
        ];
        let wanted = Wanted::of(part, Query::of(query).unwrap()).unwrap().expect("rows");
        let mut rows = Vec::new();
        wanted.write(&members, &mut rows);
        let rows: Vec<Value> = serde_json::from_slice(&rows).expect("an array");
        let rows = rows.iter();
        let name = |row: &Value| {
            row["Node"].as_str().or(row["Node"]["Node"].as_str()).expect("a name").to_owned()
        };
        rows.map(name).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_service_is_who_is_alive_and_holds_the_keys() {
        use ConsulPart::*;
        assert_eq!(rows(Nodes, None), "a b, suspect, plain");
        for query in [None, Some("passing"), Some("passing=1&tag=&near=_agent"), Some("cached")] {
            assert_eq!(rows(Service(SERVICE), query), "a b, suspect");
            assert_eq!(rows(HealthOfService(SERVICE), query), "a b, suspect");
        }
        for query in ["tag=primary", "node-meta=rack:1"] {
            assert_eq!(rows(HealthOfService(SERVICE), Some(query)), "");
        }
        assert_eq!(rows(HealthOfService("web"), None), "");
        assert_eq!(rows(HealthByState("any"), None), "a b, suspect, plain, dead");
        assert_eq!(rows(HealthByState("critical"), None), "dead");
        assert_eq!(rows(HealthByState("passing"), None), "a b, suspect, plain");
        assert_eq!(rows(HealthByState("warning"), None), "");
        assert_eq!(rows(HealthOfNode("a%20b"), None), "a b");
        assert_eq!(rows(HealthOfNode("left"), None), "");
        assert_eq!(id("a").len(), 36);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let of = |part, query| Wanted::of(part, Query::of(query).unwrap()).err().map(|f| f.status);
        assert_eq!(of(ConsulPart::HealthByState("well"), None), Some(400));
        assert_eq!(of(ConsulPart::HealthOfService("%FF"), None), Some(400));
        assert_eq!(of(ConsulPart::Nodes, Some("filter=Node==a")), Some(400));
        assert_eq!(of(ConsulPart::Nodes, Some("filter=")), None);
    }
}
