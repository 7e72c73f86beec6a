//! Ten keys of a million differ between two nodes: what does it take until they are equal?

use super::agent::wait_for;
use super::figures::{Figures, Scale};
use super::{network, size};
use std::time::Instant;

/// Cuts the second node off, writes five keys on each side, and counts from the first packet that
/// gets through. Short enough that nobody is taken for dead: what is measured is the repair, not
/// how membership finds itself again; `partition` has that.
pub fn measure(scale: &Scale, figures: &mut Figures) {
    let agents = size::full(2, scale.n_keys);
    network::cut_off(2);
    let (mut left, mut right) = (agents[0].client(), agents[1].client());
    for i in 0..5 {
        left.put(&format!("/kv/key-{i:012}"), b"left");
        right.put(&format!("/kv/key-{:012}", i + 100), b"right");
    }
    std::thread::sleep(scale.apart.min(std::time::Duration::from_secs(2)));
    network::count_only();
    wait_for("contact", || network::counted().0 > 0);
    let began = Instant::now();
    let is_equal = || {
        (0..5).all(|i| {
            right.get(&format!("/kv/key-{i:012}?raw")).1 == b"left"
                && left.get(&format!("/kv/key-{:012}?raw", i + 100)).1 == b"right"
        })
    };
    wait_for("equality", is_equal);
    figures.note_millis("from the first packet to equal, ms", began.elapsed());
    figures.note("KiB on the way, headers included", network::counted().1 as f64 / 1024.0);
}
