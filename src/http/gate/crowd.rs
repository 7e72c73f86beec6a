//! Connections that are one too many, of which the newest of each source are heard.
//!
//! A source that opens connections without end would take all places to be told, too; then its own
//! probe, on whose answer a process may depend, would be closed without a word. So who comes last
//! of a source takes the place of its oldest.

use crate::http::sources::{Place, Places};
use crate::source::Source;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Those that are heard.
pub(super) struct Crowd {
    places: Arc<Places>,
    /// Of each source, the oldest first.
    heard: Mutex<HashMap<Source, VecDeque<Arc<Seat>>>>,
}

struct Seat {
    place: Mutex<Option<Place>>,
    taken: Notify,
}

/// One that is heard, until it is dropped.
pub(super) struct Heard {
    crowd: Arc<Crowd>,
    source: Source,
    seat: Arc<Seat>,
}

impl Crowd {
    /// Room for so many.
    pub(super) fn new(max: usize) -> Arc<Crowd> {
        let places = Places::new(max);
        Arc::new(Crowd { places, heard: Mutex::default() })
    }

    /// Hears one more of this source. `None` when there is no place, nor one of this source.
    pub(super) fn hear(self: &Arc<Crowd>, source: Source) -> Option<Heard> {
        let mut heard = self.heard.lock();
        let place = self.places.take(source).or_else(|| {
            let oldest = heard.get_mut(&source)?.pop_front()?;
            let place = oldest.place.lock().take();
            oldest.taken.notify_one();
            place
        })?;
        let seat = Arc::new(Seat { place: Mutex::new(Some(place)), taken: Notify::new() });
        heard.entry(source).or_default().push_back(Arc::clone(&seat));
        drop(heard);
        Some(Heard { crowd: Arc::clone(self), source, seat })
    }
}

impl Heard {
    /// Returns when another has its place.
    pub(super) async fn displaced(&self) {
        self.seat.taken.notified().await;
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let mut heard = self.crowd.heard.lock();
        if let Some(seats) = heard.get_mut(&self.source) {
            seats.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
            if seats.is_empty() {
                heard.remove(&self.source);
            }
        }
        drop(heard);
        self.seat.place.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HTTP_REFUSED_CONNECTIONS_MAX;

    #[test]
    fn the_newest_of_a_source_take_the_places_of_its_oldest() {
        let crowd = Crowd::new(HTTP_REFUSED_CONNECTIONS_MAX);
        let source = |text: &str| Source::of(text.parse().unwrap());
        let (one, two) = (source("10.0.0.1"), source("10.0.0.2"));
        let most = HTTP_REFUSED_CONNECTIONS_MAX * 7 / 8;
        let mut first: Vec<Heard> = (0..most).map(|_| crowd.hear(one).expect("a place")).collect();
        let has_place = |heard: &Heard| heard.seat.place.lock().is_some();
        let next = crowd.hear(one).expect("the place of the oldest");
        assert!(has_place(&next) && !has_place(&first[0]) && has_place(&first[1]));
        // Others have what is left, and no place of another source.
        let others: Vec<Heard> = (0..most).map_while(|_| crowd.hear(two)).take(40).collect();
        assert_eq!(others.len(), 40);
        assert!(first[1..].iter().all(has_place));
        first.clear();
        drop((next, others));
        assert!(crowd.heard.lock().is_empty());
        let again: Vec<Heard> = (0..most).map(|_| crowd.hear(two).expect("a place")).collect();
        assert!(again.iter().all(has_place));
    }
}
