//! `/members`: who is in the cluster, as this node sees it; and giving up one who is dead.

use super::context::{Api, Call, NODE_LIMIT, Outcome};
use super::keys::{self, MEMBERS_LIMIT};
use crate::http::failure::Failure;
use crate::http::object::Object;
use crate::node::command::{Command, MemberView, Reply};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameBody<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Has a dead member forgotten; answers with what each of the others says.
pub(super) fn forget(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    Api::check_admin(call.request)?;
    let body = serde_json::from_slice::<Object<NameBody<'_>>>(call.request.body);
    let Object(body) =
        body.map_err(|_| Failure::new(400, "the body is not {\"name\":\"MEMBER\"}"))?;
    let command = Command::Forget(body.name.into_owned());
    api.ask_node(call, command, MEMBERS_LIMIT, |reply, response| match reply {
        Some(Reply::Keys(results)) => response.body(200, "application/json", &keys::table(results)),
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
