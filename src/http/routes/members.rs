//! `GET /members`: who is in the cluster, as this node sees it.

use super::context::{Api, Call, NODE_LIMIT, Outcome};
use crate::http::failure::Failure;
use crate::node::command::{Command, MemberView, Reply};
use serde::Serialize;

#[derive(Serialize)]
struct Members<'a> {
    members: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    address: String,
    state: &'static str,
    incarnation: u32,
    kv: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    formats: Option<&'a str>,
    me: bool,
    udp: &'static str,
    tcp: &'static str,
}

/// Asks the node for the table.
pub(super) fn answer(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    api.ask_node(call, Command::Members, NODE_LIMIT, |reply, response| match reply {
        Some(Reply::Members(members)) => response.body(200, "application/json", &table(&members)),
        other => response.no_reply(other),
    })
}

/// As far as this node knows.
fn way(is_blocked: bool) -> &'static str {
    if is_blocked { "blocked" } else { "open" }
}

fn table(members: &[MemberView]) -> Vec<u8> {
    let members = members.iter().map(|member| Row {
        name: &member.name,
        address: member.address.to_string(),
        state: member.state.as_str(),
        incarnation: member.incarnation,
        kv: member.kv,
        formats: member.formats.as_deref(),
        me: member.me,
        udp: way(member.udp_blocked),
        tcp: way(member.tcp_blocked),
    });
    // Plain data always has a JSON form.
    serde_json::to_vec(&Members { members: members.collect() }).unwrap_or_default()
}
