//! `--consul-write-concern`: how many members hold a write before it is answered with `true`.
//!
//! Consul's `true` means that a majority has it. Its clients ask again after a 500, which is what a
//! write gets that too few members hold in time: it stands, and goes on replicating.

use super::answers;
use crate::http::failure::Failure;
use crate::http::pending::{Slot, Waiter};
use crate::http::routes::concern;
use crate::http::routes::context::{Api, Call, Outcome};
use crate::kv::Dot;
use crate::node::command::Reply;
use std::time::Duration;

/// How long members have to hold it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a write waits for, and its place; taken before anything is written.
pub(super) struct Wait(Option<(Slot, concern::Wait)>);

impl Wait {
    /// # Errors
    /// 503 when too many wait already.
    pub(super) fn begin(api: &Api) -> Result<Wait, Failure> {
        let Some(concern) = api.shared.config.consul_write_concern else { return Ok(Wait(None)) };
        let wait = concern::Wait { concern, timeout: TIMEOUT };
        Ok(Wait(Some((api.slot(Waiter::Write)?, wait))))
    }

    /// Answers a write with JSON, at once or when enough members hold it.
    pub(super) fn answer(
        self,
        api: &Api,
        call: Call<'_>,
        last: Option<Dot>,
        body: &[u8],
    ) -> Outcome {
        let (Some((slot, wait)), Some(dot)) = (self.0, last) else {
            return answers::written(api, call, 200, body);
        };
        let (body, is_guarded) = (body.to_vec(), answers::is_guarded(api));
        wait.await_holders(api, slot, call, dot, move |reply, response| {
            let told = match reply {
                Some(Reply::Holders { held, wanted }) if held >= wanted => {
                    return response.json(&body, |head| answers::policy_if(is_guarded, head));
                }
                Some(Reply::Holders { held, wanted }) => {
                    format!("written here, held by {held} of {wanted} members asked for")
                }
                Some(Reply::Refused(why)) => format!("written here: {why}"),
                _ => "written here; the node is too busy to tell who holds it".to_owned(),
            };
            response.text(500, &told)
        })
    }
}
