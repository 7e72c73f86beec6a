//! Real programs on real sockets: our agent among Go memberlist members and Serf agents, with a
//! real DNS server, and clusters of agents as users run them.
//!
//! - [`control`]: the harness proves itself on programs that are not ours.
//! - [`members`], [`failure`], [`relay`], [`messages`], [`encryption`]: mixed clusters with Go.
//! - [`rotation`]: a live cluster changes its key under load, of ours and mixed.
//! - [`serf`]: Serf agents with default settings among ours.
//! - [`netns`]: a mixed cluster under packet loss, in network namespaces.
//! - [`networks`]: hosts of two networks, and of IPv6 alone.
//! - [`blocked`], [`distance`]: agents of ours where UDP or TCP is blocked, or the way is long.
//! - [`rolls`]: five agents replaced as an orchestrator does it, to good and bad settings.
//! - [`founding`]: clusters by a record that appears late.
//! - [`proxies`]: nginx, haproxy, Caddy and Apache in front of an agent, as the docs set them up.
//! - [`consul`]: clients of Consul at agents of ours, one and two in turn.
//! - [`page`]: the page for a person, in a browser.
//! - [`api`]: requests and clients made of the API's description, and requests made of nothing.
//! - [`discovery`], [`lifecycle`], [`leaving`], [`deletes`], [`transcript`]: agents of ours,
//!   nothing else.
//! - [`watch`]: a watch at a name that leads elsewhere after a while.
//! - [`age`]: agents whose clocks go forward by years.
//! - [`upgrade`]: a roll from the last release and back; `tests/formats/upgrade` runs it.
//!
//! What is not installed is said once and its tests are skipped; with `CI=true` they fail. Variants
//! that take minutes run with `GOSSIPYKV_LONG=1`, and as many requests that nobody would make as
//! `GOSSIPYKV_HTTP_REQUESTS` says. `GOSSIPYKV_GO_PEER=PATH` has Go members run that
//! program: `tests/interop/peer` built on another memberlist than Debian's.

mod age;
mod api;
mod blocked;
mod consul;
mod control;
mod deletes;
mod discovery;
mod distance;
mod encryption;
mod failure;
mod founding;
#[expect(dead_code, reason = "tests/chaos shares it, and needs some more")]
mod harness;
mod leaving;
mod lifecycle;
mod members;
mod messages;
#[path = "../netns/mod.rs"]
mod netns;
mod networks;
mod page;
mod proxies;
mod relay;
#[path = "../rolls/mod.rs"]
mod roll;
mod rolls;
mod rotation;
#[path = "../rounds/mod.rs"]
mod rounds;
mod scripts;
mod serf;
mod transcript;
mod upgrade;
mod watch;
