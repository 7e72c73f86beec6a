//! What is asked of the process rather than of the cluster: readiness, liveness, version.

use super::context::{Api, Call, Outcome};
use crate::http::config::Version;
use crate::http::json::json_text;
use crate::http::response::Response;
use crate::node::command::Health;

const OK: &str = "{\"status\":\"ok\"}";

/// `GET /health`: whether clients may be sent to this node, and if not, why.
pub(super) fn health(api: &Api, call: Call<'_>) -> Outcome {
    let health = api.health();
    if health == Health::Ok {
        return status(call, 200, OK);
    }
    let mut text = format!("{{\"status\":\"{}\",\"why\":", health.as_str()).into_bytes();
    json_text(&mut text, &api.why(health));
    text.push(b'}');
    status(call, 503, &String::from_utf8_lossy(&text))
}

/// `GET /live`: whether the gossip loop turns. That HTTP makes progress, the answer itself shows.
pub(super) fn live(api: &Api, call: Call<'_>) -> Outcome {
    if api.shared.bridge.live() {
        status(call, 200, OK)
    } else {
        status(call, 503, "{\"status\":\"stalled\"}")
    }
}

/// `GET /version`: which program this is.
pub(super) fn version(api: &Api, call: Call<'_>) -> Outcome {
    let Version { version, hash, date } = api.shared.config.version;
    for (name, text) in
        [("{\"version\":", version), (",\"buildhash\":", hash), (",\"builddate\":", date)]
    {
        call.body.extend_from_slice(name.as_bytes());
        json_text(call.body, text);
    }
    call.body.push(b'}');
    call.json(200, None)
}

/// A status that changes by itself, so nobody may keep it.
fn status(call: Call<'_>, status: u16, text: &str) -> Outcome {
    let response = Response::unkept(call.out, call.now.wall, status, text.len()).json();
    let response = if status == 503 { response.header("Retry-After", "1") } else { response };
    response.end(call.request.form(), text.as_bytes());
    Outcome::Answered(status)
}
