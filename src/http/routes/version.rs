//! Which version of a key a read waits for.
//!
//! ```text
//! GET /kv/{key}?newer=VERSION&wait=55s        a later one than the client has
//! GET /kv/{key}?min_version=VERSION&wait=5s   the one that the client has written, or a later one
//! ```
//!
//! The second is for who has written at one node and reads at another, as behind a load balancer.

use super::context::{Api, Call, Outcome};
use super::query::{self, Parameter};
use super::watch;
use crate::http::failure::Failure;
use crate::http::response::{EXPIRED, Response, version_text};
use crate::kv::{Record, Stamp};
use crate::limits::HTTP_POLL_MAX;
use std::time::Duration;

/// What a read waits for, and how long.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) version: Version,
    pub(super) wait: Duration,
}

/// A version to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Later than this one, of which is told whether it had expired; or any when there is none.
    Newer(Option<(Stamp, bool)>),
    /// This one, which had expired or not, or a later one.
    AtLeast((Stamp, bool)),
}

impl Awaited {
    /// What a request asks for.
    ///
    /// # Errors
    /// 400 for a version that is none, and for both at once.
    pub(super) fn of(
        newer: Option<Parameter<'_>>,
        least: Option<Parameter<'_>>,
        wait: Option<Parameter<'_>>,
    ) -> Result<Option<Awaited>, Failure> {
        let version = match (newer, least) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(400, "newer and min_version exclude each other"));
            }
            (Some(newer), None) if newer.text().is_empty() => Version::Newer(None),
            (Some(newer), None) => Version::Newer(Some(read("newer", newer)?)),
            (None, Some(least)) => Version::AtLeast(read("min_version", least)?),
            (None, None) if wait.is_some() => {
                let message = "wait is for newer=VERSION, min_version=VERSION and min_token=TOKEN: \
                    what to wait for";
                return Err(Failure::new(400, message));
            }
            (None, None) => return Ok(None),
        };
        let wait = match (version, wait) {
            (Version::AtLeast(_), None) => watch::CATCH_UP,
            (Version::AtLeast(_), Some(wait)) => {
                query::time("wait", wait.text(), Duration::ZERO..=HTTP_POLL_MAX)?
            }
            (Version::Newer(_), wait) => watch::wait(wait)?,
        };
        Ok(Some(Awaited { version, wait }))
    }
}

impl Version {
    /// Whether a key is there yet.
    pub(super) fn is_met(self, entry: Option<&Record>) -> bool {
        entry.is_some_and(|record| match self {
            Version::Newer(Some(than)) => (record.stamp(), record.has_expired()) > than,
            Version::Newer(None) => !record.is_tombstone(),
            Version::AtLeast(least) => (record.stamp(), record.has_expired()) >= least,
        })
    }

    /// It was not in time: 304 for who has the latest, 504 for who knows of a later one, and 503
    /// where a node that leaves has cut the wait short.
    pub(super) fn unmet(
        self,
        api: &Api,
        call: Call<'_>,
        entry: Option<&Record>,
        wait: Duration,
    ) -> Result<Outcome, Failure> {
        let Version::AtLeast(least) = self else {
            let response = Response::bodiless(call.out, call.now.wall, 304);
            match entry {
                Some(record) => response.of(record, call.now.wall).end_bodiless(),
                None => response.end_bodiless(),
            }
            return Ok(Outcome::Answered(304));
        };
        let text = |of| {
            let mut text = Vec::new();
            version_text(&mut text, of);
            String::from_utf8(text).unwrap_or_default()
        };
        let held = entry.map_or_else(
            || "it has none".to_owned(),
            |record| format!("it has version {}", text((record.stamp(), record.has_expired()))),
        );
        let least = text(least);
        let not_seen = format_args!("has not seen version {least}");
        Err(watch::too_late(api, not_seen, wait, format_args!(": {held}")).about(entry))
    }
}

/// A version as `ETag` tells it: a record's stamp, and whether it has expired since.
fn read(name: &str, parameter: Parameter<'_>) -> Result<(Stamp, bool), Failure> {
    let text = parameter.text();
    let (stamp, has_expired) =
        text.strip_suffix(EXPIRED).map_or((text, false), |stamp| (stamp, true));
    match stamp.parse() {
        Ok(stamp) => Ok((stamp, has_expired)),
        Err(error) => Err(Failure::new(400, format_args!("{name}={text}: {error}, as in ETag"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, OriginId};

    #[test]
    fn a_version_is_met_by_itself_or_only_by_a_later_one() {
        let stamp = |time| Stamp { time: HlcTime(time), origin: OriginId(1) };
        let live = |time| Record::new(stamp(time), 1, b"k", Some((b"v", None)));
        let delete = |time| Record::new(stamp(time), 1, b"k", None);
        for (version, met) in [
            (Version::Newer(Some((stamp(5), false))), [false, false, false, true, true]),
            (Version::Newer(None), [false, true, true, true, false]),
            (Version::AtLeast((stamp(5), false)), [false, false, true, true, true]),
        ] {
            let entries = [None, Some(live(4)), Some(live(5)), Some(live(6)), Some(delete(6))];
            assert_eq!(entries.map(|entry| version.is_met(entry.as_ref())), met, "{version:?}");
        }
        // Who has seen it expire is not told that it is still there.
        let expired = Version::AtLeast((stamp(5), true));
        let lasting = Record::lasting(stamp(5), 1, b"k", Some((b"v", None)), 3);
        assert!(!expired.is_met(Some(&lasting)) && expired.is_met(Some(&lasting.expired())));
        assert!(expired.is_met(Some(&live(6))));
    }
}
