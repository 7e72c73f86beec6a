//! Finds the route of a request, has it answered, and counts the answer.

use super::context::{Api, Call, Outcome, write_number};
use super::{
    batch, clear, consul, entry, keys, list, load, members, metrics, ofrep, openapi, page, probes,
};
use crate::http::failure::Failure;
use crate::http::pending::Parked;
use crate::http::request::{Form, Handler, Method, Request};
use crate::http::response::Response;
use crate::http::route::{Route, is_consul};
use crate::http::shared::Shared;
use std::sync::Arc;

/// Answers requests by their routes, on the threads of the workers.
pub(in crate::http) struct Router {
    api: Api,
}

impl Router {
    pub(in crate::http) fn new(shared: Arc<Shared>) -> Router {
        Router { api: Api::new(shared) }
    }

    fn dispatch(&self, call: Call<'_>) -> Result<Outcome, Failure> {
        let api = &self.api;
        if call.request.method == Method::Options {
            return Ok(options(call));
        }
        match call.route {
            Route::Entry(key) => match call.request.method {
                Method::Put => entry::put_body(api, call, key),
                Method::Delete => entry::delete(api, call, key),
                _ => entry::get(api, call, key),
            },
            Route::Pair(key, value) => entry::put_pair(api, call, key, value),
            Route::List if call.request.method == Method::Post => {
                let is_load = load::is_load(call.request.content_type);
                if is_load { load::answer(api, call) } else { batch::answer(api, call) }
            }
            Route::List if call.request.method == Method::Delete => clear::answer(api, call),
            Route::List => list::answer(api, call),
            Route::ConsulKv(path) => consul::kv(api, call, path),
            Route::ConsulTxn => consul::txn(api, call),
            Route::ConsulStatus(part)
            | Route::ConsulAgent(part)
            | Route::ConsulCatalog(part)
            | Route::ConsulCatalogOf(part)
            | Route::ConsulHealth(part) => consul::cluster(api, call, part),
            Route::OfrepFlag(key) => ofrep::one(api, call, key),
            Route::OfrepFlags => ofrep::all(api, call),
            Route::Health => Ok(probes::health(api, call)),
            Route::Live => Ok(probes::live(api, call)),
            Route::Version => Ok(probes::version(api, call)),
            Route::Members => members::answer(api, call),
            Route::MembersForget => members::forget(api, call),
            Route::Metrics => metrics::answer(api, call),
            Route::OpenApi => Ok(openapi::answer(call)),
            Route::Home => Ok(page::home(call)),
            Route::Keys | Route::KeysInstall | Route::KeysUse | Route::KeysRemove => {
                keys::answer(api, call)
            }
            Route::Unknown => Err(Failure::new(404, "no such route")),
        }
    }
}

/// What may be asked of a route; of a route alone, so that it may be asked without a token.
fn options(call: Call<'_>) -> Outcome {
    let allow = call.route.methods().map_or("", |(_, allow)| allow);
    Response::bodiless(call.out, call.now.wall, 204).header("Allow", allow).end_bodiless();
    Outcome::Answered(204)
}

impl Handler for Router {
    fn answer(&self, request: &Request<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        let (path, query) = match request.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.target, None),
        };
        let (shared, route) = (&self.api.shared, Route::of(path, query));
        let now = shared.bridge.now();
        // The answers before this one belong to others.
        let (before, room) = (out.len(), &mut None);
        let outcome = route.check(request.method, path).and_then(|()| {
            self.dispatch(Call { request, route, query, now, body: scratch, out, room })
        });
        match outcome {
            Ok(Outcome::Answered(status)) => {
                shared.counters.answered(route.number(), status);
                if let Some(room) = room.take() {
                    let whole = Parked::Whole(out.split_off(before), room);
                    write_number(out, shared.pending.leave(whole));
                }
            }
            Ok(Outcome::Parked | Outcome::Again) => {}
            Err(failure) => {
                shared.counters.answered(route.number(), failure.status);
                if is_consul(path) {
                    failure.write_plain(out, now.wall, request.form());
                } else {
                    failure.write(out, now.wall, request.form());
                }
            }
        }
    }

    fn failed(&self, form: Form, out: &mut Vec<u8>) {
        let shared = &self.api.shared;
        shared.counters.answered(Route::Unknown.number(), 500);
        let message = "the server failed at this request; its log says why";
        Failure::new(500, message).write(out, shared.bridge.now().wall, form);
    }
}
