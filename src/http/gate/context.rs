//! What all client connections have in common: the lanes, and how many connections may be open.

use super::crowd::Crowd;
use super::head::Head;
use super::listen;
use crate::http::lanes::Lanes;
use crate::http::manner::{Manner, Next, Page};
use crate::http::pending::Waiter;
use crate::http::request::{Form, Handler, Method};
use crate::http::route;
use crate::http::shared::Shared;
use crate::http::sources::{Place, Places};
use crate::http::throttle::Throttle;
use crate::limits::HTTP_POLL_TURNS_MAX;
use crate::source::Source;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};

/// How many readers of long answers have their turn at one time.
const TURNS: usize = 2;

/// One for all connections.
pub(in crate::http) struct Gate {
    pub(in crate::http) shared: Arc<Shared>,
    /// The ways to the workers.
    pub(in crate::http) lanes: Lanes,
    /// Answers probes on the spot: they must not wait behind anything.
    pub(super) handler: Arc<dyn Handler>,
    /// Most client connections, as the limit of open files permits.
    pub(super) connections_max: usize,
    /// Those that are open.
    connections: Arc<Places>,
    /// Those that wait, of each kind.
    waits: [Arc<Places>; 3],
    /// Connections that are told that there are too many.
    pub(super) crowd: Arc<Crowd>,
    /// Turns of those that read long answers.
    pub(super) turns: Semaphore,
    /// Turns of long polls at the workers for what takes its time.
    pub(super) poll_turns: Semaphore,
    /// Turns of the steps of TLS handshakes.
    pub(super) handshakes: Semaphore,
    /// Lines of the log about handshakes that come to nothing.
    pub(super) unmet_told: Throttle,
    /// The same about clients that speak TLS to a server that does not.
    pub(super) tls_begun_told: Throttle,
    /// Wakes whoever waits for the last connection to end.
    last_closed: Notify,
}

impl Gate {
    pub(in crate::http) fn new(
        shared: Arc<Shared>,
        lanes: Lanes,
        handler: Arc<dyn Handler>,
    ) -> Gate {
        let room = listen::room(shared.config.connections_max);
        let connections_max = room.connections;
        let wanted = shared.config.connections_max;
        if connections_max < wanted {
            tracing::warn!(
                connections_max,
                wanted,
                "the limit of open files permits fewer HTTP connections than wanted"
            );
        }
        let connections = Places::new(connections_max);
        let waits = Waiter::ALL.map(|waiter| Places::new(waiter.max()));
        let (turns, last_closed) = (Semaphore::new(TURNS), Notify::new());
        Gate {
            shared,
            lanes,
            handler,
            connections_max,
            connections,
            waits,
            crowd: Crowd::new(room.refused),
            turns,
            poll_turns: Semaphore::new(HTTP_POLL_TURNS_MAX),
            handshakes: Semaphore::new(1),
            unmet_told: Throttle::default(),
            tls_begun_told: Throttle::default(),
            last_closed,
        }
    }

    /// A place to wait. `None` when too many of this source do already.
    pub(super) fn wait(&self, waiter: Waiter, source: Source) -> Option<Place> {
        self.waits[waiter as usize].take(source)
    }

    /// What the answer to a request with this head has to be like.
    pub(super) fn manner(&self, head: &Head<'_>) -> Manner {
        let next = match (head.keep_alive && !self.shared.shutdown.is_draining(), head.is_http_1_0)
        {
            (false, _) => Next::Close,
            (true, false) => Next::Keep,
            (true, true) => Next::KeepSaid,
        };
        let origins = &self.shared.config.cors_origins;
        let allowed = |sent| origins.iter().position(|origin| origin.is(sent));
        let page = match head.origin.and_then(allowed) {
            None => Page::None,
            Some(origin) if head.method == Method::Options => Page::Asks(origin),
            Some(origin) => Page::Reads(origin),
        };
        let is_plain = route::is_consul(head.target);
        Manner { form: Form::of(head.method), next, page, is_plain }
    }

    /// Returns when no connection is open.
    pub(in crate::http) async fn emptied(&self) {
        loop {
            let last_closed = self.last_closed.notified();
            if self.shared.counters.n_open() == 0 {
                return;
            }
            last_closed.await;
        }
    }
}

/// One client connection, counted while it is open.
pub(super) struct Open {
    gate: Arc<Gate>,
    _place: Place,
}

impl Open {
    /// `None` when there are as many as there may be, or as many of this source.
    pub(super) fn one_of(gate: &Arc<Gate>, source: Source) -> Option<Open> {
        let place = gate.connections.take(source)?;
        gate.shared.counters.opened();
        Some(Open { gate: Arc::clone(gate), _place: place })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.gate.shared.counters.closed() == 0 {
            self.gate.last_closed.notify_waiters();
        }
    }
}
