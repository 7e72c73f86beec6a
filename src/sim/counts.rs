//! What a cluster counts of itself while it runs.

/// What a cluster has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events handled.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Bytes of datagrams sent, all layers on.
    pub datagram_len: u64,
    /// The longest of them.
    pub datagram_len_max: usize,
    /// Datagrams, and frames on connections, sent with writes in them.
    pub pushes: u64,
    /// Bytes sent on connections.
    pub stream_len: u64,
    /// Connections dialled.
    pub dials: u64,
    /// Suspicions begun anywhere.
    pub suspicions: u64,
    /// Members declared dead anywhere.
    pub deaths: u64,
    /// Accusations refuted.
    pub refutes: u64,
    /// Divergences that the safety net had to mend.
    pub divergences: u64,
    /// Resets of nodes that had slept past forgotten deletes.
    pub resets: u64,
    /// Nodes that took themselves for set back to an earlier state.
    pub set_backs: u64,
    /// Runs that are over and that nodes let go of.
    pub let_go: u64,
    /// Copies from before a forgotten delete that processes refused, once they have ended.
    pub refused: u64,
}
