//! Properties of the store: merging in any order, listing against a model, exact counts.

use gossipykv::kv::{
    Expiring, Gone, HlcTime, Listing, Merge, Most, OriginId, Record, Stamp, Store, StoreConfig,
    StoreStats,
};
use gossipykv::limits::{STORE_LEAVES_PER_SHARD, STORE_SHARDS};
use gossipykv::time::{Now, WallMillis};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

fn now(wall_ms: u64) -> Now {
    Now { wall: WallMillis(wall_ms), ..Now::default() }
}

fn store(origin: u64) -> Store {
    Store::new(StoreConfig { origin: OriginId(origin), store_len_max: 0 })
}

/// Every record of a store, by key, tombstones too.
fn dump(store: &Store) -> BTreeMap<Vec<u8>, Record> {
    let mut records = BTreeMap::new();
    for shard in 0..STORE_SHARDS {
        store.scan_shard(shard, |record| {
            let twice = records.insert(record.key().to_vec(), record.clone());
            assert_eq!(twice, None);
        });
    }
    records
}

/// Counts and sums everything anew and compares it with what the store says.
fn recount(store: &Store) -> StoreStats {
    let records = dump(store);
    let stats = store.stats();
    let n_live = records.values().filter(|record| !record.is_tombstone()).count() as u64;
    assert_eq!(stats.n_live, n_live);
    assert_eq!(stats.n_tombstones, records.len() as u64 - n_live);
    let is_lasting = |record: &&Record| record.ttl().is_some() && !record.is_tombstone();
    assert_eq!(stats.n_lasting, records.values().filter(is_lasting).count() as u64);
    assert_eq!(stats.bytes, records.values().map(|r| r.as_bytes().len() as u64).sum::<u64>());
    let afresh = self::store(u64::MAX);
    for record in records.values() {
        afresh.merge(record, now(0));
    }
    assert_eq!(afresh.root(), store.root());
    assert_eq!(afresh.shard_roots(), store.shard_roots());
    for shard in 0..STORE_SHARDS {
        let leaves = store.leaves(shard);
        assert_eq!((leaves.len(), &afresh.leaves(shard)), (STORE_LEAVES_PER_SHARD, &leaves));
        assert_eq!(leaves.iter().fold(0, |sum: u64, leaf| sum.wrapping_add(*leaf)), {
            store.shard_roots()[shard]
        });
    }
    stats
}

/// A record out of few keys and times, so that versions meet. The rest follows from the stamp, so
/// that an equal stamp is the same bytes, but for the rare `forged` one; some expire, and come in
/// both of their forms.
fn record() -> impl Strategy<Value = Record> {
    let forged = prop_oneof![9 => Just(0u8), 1 => 1..3u8];
    (0..6u8, 0..8u64, 1..4u64, forged).prop_map(|(key, time, origin, forged)| {
        let stamp = Stamp { time: HlcTime(time), origin: OriginId(origin) };
        let value = vec![forged; (time * 7 + origin) as usize % 5];
        let content = (time * 3 + origin) % 4 > 0;
        let content_type = (origin == 2).then_some("a/b");
        let content = content.then_some((&value[..], content_type));
        let (seq, key) = (1 + time * 10 + origin, [b'a' + key]);
        match (time + origin) % 3 {
            0 => {
                let put = Record::lasting(stamp, seq, &key, Some((&value, None)), 1 + time as u32);
                if forged == 1 { put.expired() } else { put }
            }
            _ => Record::new(stamp, seq, &key, content),
        }
    })
}

/// Lets everything expire that is due, a few in a turn.
fn sweep(store: &Store, wall_ms: u64) {
    let mut at = Expiring::default();
    store.expire(now(wall_ms), &mut at, 2);
    while at.is_within() {
        store.expire(now(wall_ms), &mut at, 2);
    }
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        records in vec(record(), 0..40).prop_shuffle(),
        order in any::<prop::sample::Index>(),
        repeats in vec(any::<prop::sample::Index>(), 0..10),
        cut in any::<prop::sample::Index>(),
    ) {
        let one = store(100);
        for record in &records {
            one.merge(record, now(1));
        }
        // Another order, with some of them twice.
        let (two, mut turned) = (store(200), records.clone());
        turned.rotate_left(order.index(records.len() + 1));
        for record in turned.iter().rev() {
            two.merge(record, now(1));
        }
        for again in repeats.iter().filter(|_| !records.is_empty()) {
            let merge = two.merge(again.get(&records), now(1));
            prop_assert!(matches!(merge, Merge::Stale | Merge::Equal));
        }
        // In two groups, each merged first by itself.
        let (left, right) = records.split_at(cut.index(records.len() + 1));
        let (group, whole) = (store(300), store(400));
        for record in right {
            group.merge(record, now(1));
        }
        for record in left.iter().chain(dump(&group).values()) {
            whole.merge(record, now(1));
        }
        for other in [&two, &whole] {
            prop_assert_eq!(dump(other), dump(&one));
            prop_assert_eq!(other.root(), one.root());
        }
        recount(&one);
    }

    #[test]
    fn nodes_whose_clocks_differ_end_the_same_whenever_they_let_expire(
        records in vec((record(), 0..12_000u64, any::<bool>()), 0..40),
        order in any::<prop::sample::Index>(),
    ) {
        let (one, two) = (store(100), store(200));
        for (record, wall_ms, sweeps) in &records {
            one.merge(record, now(1));
            if *sweeps {
                sweep(&one, *wall_ms);
            }
        }
        let mut turned = records.clone();
        turned.rotate_left(order.index(records.len() + 1));
        for (record, wall_ms, sweeps) in turned.iter().rev() {
            // Some come from a node that has swept them, this one has or has not.
            let record = if *sweeps && record.ttl().is_some() { &record.expired() } else { record };
            two.merge(record, now(1));
            if *wall_ms % 2 == 0 {
                sweep(&two, 12_000 - *wall_ms);
            }
        }
        prop_assert_eq!(one.root(), two.root(), "what expires is no part of it");
        sweep(&one, 20_000);
        sweep(&two, 20_000);
        prop_assert_eq!(dump(&one), dump(&two));
        recount(&one);
        prop_assert_eq!(recount(&two).n_lasting, 0);
    }

    #[test]
    fn a_version_here_never_goes_back(records in vec(record(), 1..40)) {
        let store = store(100);
        for record in &records {
            let before = store.entry(record.key()).map(|entry| entry.stamp());
            let merge = store.merge(record, now(1));
            let after = store.entry(record.key()).map(|entry| entry.stamp());
            prop_assert!(after >= before && after >= Some(record.stamp()));
            prop_assert_eq!(merge == Merge::Stale, before > Some(record.stamp()) || {
                store.entry(record.key()).as_ref() != Some(record)
            });
        }
    }
}

/// What may happen to a store, and to the model beside it.
#[derive(Debug, Clone)]
enum Step {
    Put(String, Vec<u8>),
    Delete(String),
    Forget(String),
    ForgetTombstones,
    MergeBack(String),
}

fn key() -> impl Strategy<Value = String> {
    // Short keys over a small alphabet, with letters of one, two and three bytes.
    "[ab/\u{7f}\u{e9}\u{20ac}]{1,4}"
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (key(), vec(any::<u8>(), 0..20)).prop_map(|(key, value)| Step::Put(key, value)),
        4 => key().prop_map(Step::Delete),
        1 => key().prop_map(Step::Forget),
        1 => Just(Step::ForgetTombstones),
        1 => key().prop_map(Step::MergeBack),
    ]
}

/// The model: what is live, and nothing else.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn take(store: &Store, model: &mut Model, wall_ms: u64, step: &Step) {
    match step {
        Step::Put(key, value) => {
            let before = store.entry(key.as_bytes()).map(|entry| entry.stamp());
            let written = store.put(now(wall_ms), key.as_bytes(), value, None).expect("room");
            assert!(Some(written.stamp) > before);
            model.insert(key.as_bytes().to_vec(), value.clone());
        }
        Step::Delete(key) => {
            store.delete(now(wall_ms), key.as_bytes()).expect("room");
            model.remove(key.as_bytes());
        }
        Step::Forget(key) => {
            if let Some(entry) = store.entry(key.as_bytes()) {
                assert!(store.remove_exact(entry.key(), entry.stamp()));
            }
            model.remove(key.as_bytes());
        }
        Step::ForgetTombstones => {
            let n_before = store.stats().n_tombstones;
            let n: usize = (0..STORE_SHARDS)
                .map(|shard| {
                    let place = (shard, Gone::Deleted);
                    let ever = HlcTime(u64::MAX);
                    store.forget_tombstones(now(wall_ms), place, None, ever, Most::ALL, |_| true).n
                })
                .sum();
            assert_eq!((n as u64, store.stats().n_tombstones), (n_before, 0));
        }
        Step::MergeBack(key) => {
            if let Some(entry) = store.entry(key.as_bytes()) {
                assert_eq!(store.merge(&entry, now(wall_ms)), Merge::Equal);
            }
        }
    }
}

/// The page the model says is right.
fn page_of(model: &Model, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Page {
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_vec()));
    let all = model.range((from, Bound::Unbounded)).filter(|(key, _)| key.starts_with(prefix));
    let mut items: Vec<_> = all.take(limit.saturating_add(1)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|(key, _)| (*key).clone());
    (items.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect(), next)
}

type Page = (Vec<(Vec<u8>, Vec<u8>)>, Option<Vec<u8>>);

fn page(listing: &Listing) -> Page {
    let item = |item: &Record| (item.key().to_vec(), item.value().expect("live").to_vec());
    (listing.items.iter().map(item).collect(), listing.next.clone())
}

proptest! {
    #[test]
    fn agrees_with_a_map_and_counts_exactly(
        steps in vec((0..100u64, step()), 0..120),
        prefixes in vec("[ab/\u{e9}]{0,2}", 1..4),
        after in option::of(key()),
        limit in 0..12usize,
    ) {
        let (store, mut model) = (store(1), Model::new());
        for (wall_ms, step) in &steps {
            take(&store, &mut model, *wall_ms, step);
        }
        for (key, value) in &model {
            let record = store.get(now(100), key).expect("in the model");
            prop_assert_eq!(record.value(), Some(&value[..]));
        }
        prop_assert_eq!(recount(&store).n_live, model.len() as u64);
        for prefix in &prefixes {
            let prefix = prefix.as_bytes();
            for after in [None, after.as_ref().map(|after| after.as_bytes())] {
                for limit in [limit, usize::MAX] {
                    let listing = store.list(now(100), prefix, after, limit);
                    prop_assert_eq!(page(&listing), page_of(&model, prefix, after, limit));
                }
            }
        }
    }

    #[test]
    fn a_limit_on_bytes_is_never_passed_by_local_writes(
        steps in vec((0..9u8, 0..60usize, any::<bool>()), 0..80),
        len_max in 1..600u64,
    ) {
        let origin = OriginId(1);
        let store = Store::new(StoreConfig { origin, store_len_max: len_max });
        for (key, value_len, delete) in steps {
            let before = (store.stats(), dump(&store));
            let key = [b'a' + key];
            let refused = if delete {
                store.delete(now(1), &key).is_err()
            } else {
                store.put(now(1), &key, &vec![0; value_len], None).is_err()
            };
            let is_within = store.stats().bytes <= len_max.max(before.0.bytes);
            prop_assert!(is_within || delete, "a delete is always taken, and nothing else");
            prop_assert!(!(refused && delete));
            if refused {
                prop_assert_eq!((store.stats(), dump(&store)), before);
            }
        }
        recount(&store);
    }
}
