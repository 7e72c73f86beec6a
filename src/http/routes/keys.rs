//! `/keys`: the gossip keyring of the whole cluster.
//!
//! This route is only for clients that have shown who they are, by a token or by the secret that
//! commands on this host are told. Keys are written, never read: an
//! answer names keys by their fingerprints, and no error repeats what a client sent.

use super::context::{Api, Call, Outcome};
use crate::http::failure::Failure;
use crate::http::object::Object;
use crate::http::route::Route;
use crate::node::command::{Command, KeyCommand, Reply};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the members may take; the node itself gives up some seconds before.
pub(super) const MEMBERS_LIMIT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody<'a> {
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct Members {
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Lists the keys, or has one installed, used or removed; answers with what each member says.
pub(super) fn answer(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    Api::check_admin(call.request)?;
    let command = match call.route {
        Route::KeysInstall => KeyCommand::Install(key(call.request.body)?),
        Route::KeysUse => KeyCommand::Use(key(call.request.body)?),
        Route::KeysRemove => KeyCommand::Remove(key(call.request.body)?),
        _ => KeyCommand::List,
    };
    api.ask_node(call, Command::Keys(command), MEMBERS_LIMIT, |reply, response| match reply {
        Some(Reply::Keys(results)) => response.body(200, "application/json", &table(results)),
        other => response.no_reply(other),
    })
}

fn key(body: &[u8]) -> Result<Vec<u8>, Failure> {
    let wrong = || Failure::new(400, "the body is not {\"key\":\"BASE64 of 16, 24 or 32 bytes\"}");
    let Object(body): Object<KeyBody<'_>> = serde_json::from_slice(body).map_err(|_| wrong())?;
    let key = STANDARD.decode(body.key.trim()).map_err(|_| wrong())?;
    if matches!(key.len(), 16 | 24 | 32) { Ok(key) } else { Err(wrong()) }
}

pub(super) fn table(results: Vec<(String, Result<Vec<String>, String>)>) -> Vec<u8> {
    let members = results.into_iter().map(|(name, result)| match result {
        Ok(keys) => Member { name, keys: Some(keys), error: None },
        Err(error) => Member { name, keys: None, error: Some(error) },
    });
    // Plain data always has a JSON form.
    serde_json::to_vec(&Members { members: members.collect() }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_not_repeated() {
        let good = format!("{{\"key\":\"{}\"}}", STANDARD.encode([7; 24]));
        assert_eq!(key(good.as_bytes()), Ok(vec![7; 24]));
        let short = format!("{{\"key\":\"{}\"}}", STANDARD.encode([7; 23]));
        for bad in ["", "{}", "{\"key\":7}", "{\"key\":\"s3cret!\"}", "[\"s3cret\"]", &short] {
            let failure = key(bad.as_bytes()).unwrap_err();
            assert_eq!(failure.status, 400, "{bad}");
            assert!(!failure.message.contains("s3cret"), "{bad}");
        }
    }
}
