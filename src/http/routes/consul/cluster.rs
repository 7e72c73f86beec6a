//! What Consul's clients ask beside the keys: who leads, who is there, which data centre it is.
//!
//! Each node answers as if it were the leader, because each serves everything. Nobody may elect by
//! that.

use super::answers;
use super::asked::{DATACENTER, Query};
use super::blocking;
use super::index::{NOTHING, State};
use crate::http::failure::Failure;
use crate::http::route::ConsulPart;
use crate::http::routes::context::{Api, Call, NODE_LIMIT, Outcome};
use crate::kv::Target;
use crate::node::command::{Command, MemberStatus, MemberView, Reply};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

/// The release of Consul whose API this is.
const CONSUL_VERSION: &str = "1.22.0";
/// A key that cannot be: who waits for it waits until its time is up.
const NOBODYS: &[u8] = &[0xff];

/// Answers one of these routes.
pub(in crate::http::routes) fn answer(
    api: &Api,
    mut call: Call<'_>,
    part: ConsulPart,
) -> Result<Outcome, Failure> {
    let query = Query::of(call.query)?;
    let nobodys = State { index: NOTHING, sum: 0 };
    let target = Target::Key(NOBODYS.into());
    // Nothing of all this has versions. A client that waits must not ask all the time.
    let index = match blocking::turn(api, &mut call, query, target, nobodys)? {
        Ok(index) => index,
        Err(outcome) => return Ok(outcome),
    };
    let is_ready = api.not_ready().is_none();
    let version = api.shared.config.version;
    let is_guarded = answers::is_guarded(api);
    let fixed = match part {
        ConsulPart::Datacenters => Some(json!([DATACENTER])),
        ConsulPart::Services => Some(json!({})),
        _ => None,
    };
    if let Some(value) = fixed {
        call.body.extend_from_slice(value.to_string().as_bytes());
        return Ok(answers::json(api, call, index));
    }
    api.ask_node(call, Command::Members, NODE_LIMIT, move |reply, response| {
        let Some(Reply::Members(members)) = reply else {
            return response.text(503, "the node did not reply in time; try again");
        };
        let body = match part {
            ConsulPart::Leader => leader(&members, is_ready),
            ConsulPart::Peers => peers(&members),
            ConsulPart::Agent => agent(&members, version.version, version.hash, version.date),
            ConsulPart::Members => members.iter().map(member).collect(),
            _ => nodes(&members),
        };
        response.json(body.to_string().as_bytes(), |head| {
            answers::read_headers_if(is_guarded, head, index)
        })
    })
}

/// This node, while it is ready; nobody else.
fn leader(members: &[MemberView], is_ready: bool) -> Value {
    let me = members.iter().find(|member| member.me && is_ready);
    json!(me.map(|me| me.address.to_string()).unwrap_or_default())
}

fn is_alive(member: &&MemberView) -> bool {
    matches!(member.state, MemberStatus::Alive | MemberStatus::Suspect)
}

fn peers(members: &[MemberView]) -> Value {
    let serving = members.iter().filter(|member| member.kv).filter(is_alive);
    serving.map(|member| member.address.to_string()).collect()
}

fn member(member: &MemberView) -> Value {
    let status = match member.state {
        MemberStatus::Alive | MemberStatus::Suspect => 1,
        MemberStatus::Left => 3,
        MemberStatus::Dead => 4,
    };
    json!({
        "Name": member.name,
        "Addr": member.address.ip().to_string(),
        "Port": member.address.port(),
        "Tags": {},
        "Status": status,
    })
}

fn agent(members: &[MemberView], version: &str, hash: &str, date: &str) -> Value {
    let me = members.iter().find(|member| member.me);
    let name = me.map_or("", |me| &me.name);
    json!({
        "Config": {
            "Datacenter": DATACENTER,
            "PrimaryDatacenter": DATACENTER,
            "NodeName": name,
            "NodeID": id(name),
            "Revision": hash,
            "Server": true,
            "Version": format!("{CONSUL_VERSION}+gossipykv.{version}"),
            "BuildDate": date,
            "BindAddr": me.map(|me| me.address.ip().to_string()),
        },
        "DebugConfig": {},
        "Coord": null,
        "Member": me.map(member),
        "Stats": {},
        "Meta": {},
    })
}

fn nodes(members: &[MemberView]) -> Value {
    let node = |member: &MemberView| {
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
    };
    members.iter().filter(is_alive).map(node).collect()
}

/// A name in the form of a UUID, the same on every node.
fn id(name: &str) -> String {
    let hex = format!("{:032x}", xxh3_128(name.as_bytes()));
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, state: MemberStatus, me: bool) -> MemberView {
        MemberView {
            name: name.into(),
            address: "10.0.0.1:7947".parse().unwrap(),
            state,
            incarnation: 1,
            kv: true,
            formats: None,
            me,
            udp_blocked: false,
            tcp_blocked: false,
        }
    }

    #[test]
    fn a_node_that_is_not_ready_names_no_leader() {
        let members = [view("a", MemberStatus::Dead, false), view("b", MemberStatus::Alive, true)];
        assert_eq!(leader(&members, true), "10.0.0.1:7947");
        assert_eq!(leader(&members, false), "");
        assert_eq!(peers(&members), json!(["10.0.0.1:7947"]));
        assert_eq!(nodes(&members)[0]["Node"], "b");
        assert_eq!((member(&members[0])["Status"].as_u64(), id("a").len()), (Some(4), 36));
        let told = agent(&members, "1.2.3", "abc", "2025-01-01");
        assert_eq!(told["Config"]["Version"], "1.22.0+gossipykv.1.2.3");
        assert_eq!(told["Member"]["Name"], "b");
    }
}
