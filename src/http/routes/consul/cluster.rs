//! What Consul's clients ask beside the keys: who leads, who is there, which data centre it is.
//!
//! Each node answers as if it were the leader, because each serves everything. Nobody may elect by
//! that.

use super::answers;
use super::asked::{DATACENTER, Query};
use super::blocking;
use super::catalog;
use super::index::NOTHING;
use crate::http::failure::Failure;
use crate::http::route::ConsulPart;
use crate::http::routes::context::{Api, Call, Outcome};
use crate::http::watch::roster::{Mark, Roster, is_living};
use crate::node::command::{MemberStatus, MemberView};
use serde_json::{Value, json};

/// The release of Consul whose API this is.
const CONSUL_VERSION: &str = "1.22.0";

/// Answers one of these routes.
pub(in crate::http::routes) fn answer(
    api: &Api,
    mut call: Call<'_>,
    part: ConsulPart<'_>,
) -> Result<Outcome, Failure> {
    let query = Query::of(call.query)?;
    let wanted = catalog::Wanted::of(part, query)?;
    // A bad one is told whatever the node's state.
    query.wait(api.shared.config.consul_wait_max)?;
    if wanted.is_some() {
        // Who asks where the others are must not hear that there are none, as this node joins them.
        api.check_complete()?;
    }
    let Some(roster) = api.shared.rosters.latest() else {
        return Err(Failure::busy("the node did not reply in time; try again"));
    };
    let index = match blocking::turn_of_members(api, &mut call, query, mark(part, &roster))? {
        Ok(index) => index,
        Err(outcome) => return Ok(outcome),
    };
    let members = &roster.members[..];
    if let Some(wanted) = wanted {
        wanted.write(members, call.body);
        return Ok(answers::json(api, call, index));
    }
    let body = match part {
        ConsulPart::Leader => leader(members, api.not_ready().is_none()),
        ConsulPart::Peers => peers(members),
        ConsulPart::Agent => {
            let version = api.shared.config.version;
            agent(members, version.version, version.hash, version.date)
        }
        ConsulPart::Members => members.iter().map(member).collect(),
        _ => json!([DATACENTER]),
    };
    call.body.extend_from_slice(body.to_string().as_bytes());
    Ok(answers::json(api, call, index))
}

/// Where that is which a route tells of.
fn mark(part: ConsulPart<'_>, roster: &Roster) -> Mark {
    match part {
        // There is one, for ever.
        ConsulPart::Datacenters => Mark { index: NOTHING, sum: 0 },
        ConsulPart::Members | ConsulPart::HealthOfNode(_) | ConsulPart::HealthByState(_) => {
            roster.all
        }
        _ => roster.living,
    }
}

/// This node, while it is ready; nobody else.
fn leader(members: &[MemberView], is_ready: bool) -> Value {
    let me = members.iter().find(|member| member.me && is_ready);
    json!(me.map(|me| me.address.to_string()).unwrap_or_default())
}

fn peers(members: &[MemberView]) -> Value {
    let serving = members.iter().filter(|member| member.kv && is_living(member));
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
            "NodeID": catalog::id(name),
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
        assert_eq!(member(&members[0])["Status"], 4);
        let told = agent(&members, "1.2.3", "abc", "2025-01-01");
        assert_eq!(told["Config"]["Version"], "1.22.0+gossipykv.1.2.3");
        assert_eq!(told["Member"]["Name"], "b");
    }
}
