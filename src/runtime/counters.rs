//! What the shell counts; the engine adds it to the node's own samples.

use crate::node::command::Sample;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Declares the counters, each with the line that explains it; as a sample each is called by its
/// field and `_total`.
macro_rules! counters {
    ($($field:ident: $help:literal,)*) => {
        /// Everything counts up from zero at start.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(#[doc = $help] pub $field: AtomicU64,)*
        }

        impl Counters {
            /// One sample each.
            pub fn samples(&self) -> Vec<Sample> {
                vec![$(Sample {
                    name: concat!(stringify!($field), "_total"),
                    help: $help,
                    labels: Vec::new(),
                    value: self.$field.load(Relaxed) as f64,
                },)*]
            }
        }
    };
}

counters! {
    datagrams_received: "Gossip datagrams received.",
    datagrams_sent: "Gossip datagrams sent.",
    datagram_bytes_received: "Bytes of gossip datagrams received, without IP and UDP headers.",
    datagram_bytes_sent: "Bytes of gossip datagrams sent, without IP and UDP headers.",
    datagram_receive_errors: "Errors the system gave instead of a datagram.",
    datagram_send_errors: "Datagrams the system did not take: no room in its buffer, or no route.",
    streams_accepted: "Gossip connections accepted.",
    streams_refused: "Gossip connections closed at once because too many were open.",
    streams_displaced: "Gossip connections that brought no frame and made room for a new one.",
    streams_dialled: "Gossip connections dialled.",
    dials_refused: "Gossip connections not dialled because too many were open.",
    stream_errors: "Gossip connections given up for what they carried or how they ended.",
    stream_timeouts: "Gossip connections given up because the other end was too slow.",
    stream_bytes_received: "Bytes received on gossip connections.",
    stream_bytes_sent: "Bytes sent on gossip connections.",
    stream_frames_dropped: "Frames dropped, and their connection with them, for a full queue.",
    mailbox_refused: "Commands refused because the mailbox was full.",
    engine_turns: "Turns of the gossip loop.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_carry_name_and_value() {
        let counters = Counters::default();
        counters.datagrams_sent.fetch_add(3, Relaxed);
        let samples = counters.samples();
        let sent = samples.iter().find(|sample| sample.name == "datagrams_sent_total");
        assert_eq!(sent.expect("a sample").value, 3.0);
        assert_eq!(samples.iter().filter(|sample| sample.value == 0.0).count(), samples.len() - 1);
    }
}
