//! What is below the floor is known, though no run in it is known by name.

use super::floor::{FIRST, cluster, end, have_cut, known, push, records, write};
use super::*;
use crate::kv::{Asked, Coverage, Reader, Seen, Target, Token};
use crate::limits::TOKEN_ORIGINS_MAX;

fn coverage(cluster: &Cluster, member: usize) -> Coverage {
    cluster.members[member].replication.view().coverage()
}

/// What a reader takes along that has read all of a member.
fn token(cluster: &Cluster, member: usize) -> Token {
    let mut seen = Seen::default();
    seen.told(&coverage(cluster, member).seen, 0);
    seen.token(TOKEN_ORIGINS_MAX).expect("a token")
}

/// The keys that a reader with this token is told in a list.
fn listed(cluster: &Cluster, token: &Token) -> Vec<String> {
    let asked = Asked { prefix: b"", after: None, limit: 99 };
    let store = &cluster.members[0].store;
    let told = store.tell(cluster.now, asked, Some(token), &coverage(cluster, 0));
    assert!(!told.is_reset);
    told.page.items.iter().map(key).collect()
}

/// The same in a stream.
fn streamed(cluster: &Cluster, token: &Token, target: Target) -> Vec<String> {
    let store = &cluster.members[0].store;
    let mut reader = Reader::new(target, Some(token.clone()));
    reader.begin(store, Arc::new(coverage(cluster, 0)));
    assert!(!reader.is_new());
    let mut told = Vec::new();
    while let Some(part) = reader.part(store, cluster.now, 99) {
        told.extend(part.iter().map(key));
    }
    told
}

fn key(record: &Record) -> String {
    String::from_utf8_lossy(record.key()).into()
}

#[test]
fn a_reader_is_told_nothing_again_that_is_below_the_floor() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    // The first write of a run is lost: what is held is more than numbers say from then on.
    let tail = records(&cluster, 77, 2, Some(b"v"));
    push(&mut cluster, &[0, 1], 77, &tail[1..]);
    cluster.run(Duration::from_secs(30));
    assert!(!coverage(&cluster, 0).is_exact);
    let token = token(&cluster, 0);
    assert!(known(&cluster, 0).is_unknown(OriginId(FIRST)));
    assert_eq!(listed(&cluster, &token), ["k77-2"]);
    assert_eq!(streamed(&cluster, &token, Target::Prefix(b"k"[..].into())), ["k77-2"]);
    let key = format!("k{FIRST}-1").into_bytes().into_boxed_slice();
    assert!(streamed(&cluster, &token, Target::Key(key)).is_empty());
    // What is written since is told, be the run unknown or not.
    let later = write(78, cluster.now.wall.0, 1, "later", Some(b"v"));
    push(&mut cluster, &[0, 1], 78, &[later]);
    assert_eq!(listed(&cluster, &token), ["k77-2", "later"]);
}
