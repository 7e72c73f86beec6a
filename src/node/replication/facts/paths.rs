//! Half-broken networks: by datagram, by link, or by way of others.
//!
//! ```text
//! datagrams in vain, its link answers --> all goes over the link --a datagram answered--> back
//! dials in vain, its datagrams come   --> nothing goes over links but a try now and then; what is
//!                                         too large for a datagram it asks others for
//! ```
//!
//! Membership sees blocked UDP too, by its probes; what it sees is taken over when it changes. A
//! node whose own datagrams reach nobody tells its digest over links: whoever hears that sends to
//! it over links for a while.
//!
//! What comes over a link is answered on it alone, what comes by datagram by datagram, too. So an
//! answer by datagram shows that both ways of UDP work.

use crate::node::io::ConnId;
use crate::time::Instant;
use std::time::Duration;

/// Tries by datagram in vain, in a row, after which an answer over the link settles it. Heavy loss
/// comes to so many once in a thousand writes, and then costs a link's way for a moment.
const VAIN_MAX: u32 = 10;
/// Time between two dials to such a peer.
pub(in crate::node) const DIAL_RETRY: Duration = Duration::from_secs(5);

/// Which way something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Via {
    Datagram,
    Link(ConnId),
    /// As the user state of a push-pull.
    Exchange,
}

/// What is known of the ways to one peer.
#[derive(Debug, Default)]
pub(in crate::node) struct Paths {
    /// Tries by datagram without an answer by datagram, in a row.
    n_vain: u32,
    pub(in crate::node) udp_blocked: bool,
    udp_tried: Instant,
    /// Until when it has asked for links.
    pub(in crate::node) asked_until: Instant,
    /// When a datagram came from it last.
    pub(in crate::node) heard: Option<Instant>,
    /// Dials in vain in a row, and when the first of them was given up.
    pub(in crate::node) n_dials: u32,
    pub(in crate::node) dial_failed: Instant,
    pub(in crate::node) tcp_blocked: bool,
    pub(in crate::node) next_dial: Instant,
}

impl Paths {
    /// Whether small things, too, go over the link; `is_mute` when our own datagrams seem to reach
    /// nobody.
    pub(in crate::node) fn by_link(&self, now: Instant, is_mute: bool) -> bool {
        (self.udp_blocked || is_mute || now < self.asked_until) && !self.tcp_blocked
    }

    /// A datagram came from it.
    pub(in crate::node) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// Whether it gets no datagrams, and the last one that tried was at least `wait` ago; notes
    /// that one tries now.
    pub(in crate::node) fn tries_udp(&mut self, now: Instant, wait: Duration) -> bool {
        let tries = self.udp_blocked && now.since(self.udp_tried) >= wait;
        if tries {
            self.udp_tried = now;
        }
        tries
    }

    /// Whether nothing may be dialled now.
    pub(in crate::node) fn is_held(&self, now: Instant) -> bool {
        self.tcp_blocked && now < self.next_dial
    }

    /// Whether a dial to it has failed, and none succeeded since.
    pub(in crate::node) fn is_doubtful(&self) -> bool {
        self.n_dials > 0
    }

    /// Something goes out by datagram once more.
    pub(in crate::node) fn try_in_vain(&mut self) {
        self.n_vain = self.n_vain.saturating_add(1);
    }

    /// What went to it by datagram was answered by datagram.
    pub(in crate::node) fn answered_by_datagram(&mut self) {
        (self.n_vain, self.udp_blocked) = (0, false);
    }

    /// What had gone to it by datagram in vain was answered over the link.
    pub(in crate::node) fn answered_by_link(&mut self) {
        self.udp_blocked |= self.n_vain >= VAIN_MAX;
    }

    /// A dial begins: while TCP counts as blocked, the next one has to wait.
    pub(in crate::node) fn dialling(&mut self, now: Instant) {
        self.next_dial = now + DIAL_RETRY;
    }

    /// Membership has changed its mind.
    pub(in crate::node) fn probed(&mut self, udp_blocked: bool) {
        (self.n_vain, self.udp_blocked) = (0, udp_blocked);
    }
}

/// Digests by datagram, to whomever, in a row that were not answered by datagram.
#[derive(Debug, Default)]
pub(in crate::node) struct Unanswered(u32);

impl Unanswered {
    /// One has been answered.
    pub(in crate::node) fn answered(&mut self) {
        self.0 = 0;
    }

    /// One more.
    pub(in crate::node) fn told(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// Whether our own datagrams seem to reach nobody, or no answer us.
    pub(in crate::node) fn is_mute(&self) -> bool {
        self.0 >= UNANSWERED_MAX
    }
}

/// After so many of them all goes over links. Where a quarter of all packets is lost, that happens
/// every few minutes, and lasts until the next digest is answered.
const UNANSWERED_MAX: u32 = 6;
