//! Who may connect.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec};

use super::places::{Place, Places};

/// What a connection may expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// To be served.
    Served,
    /// One above the limit: answers to probes, and for the rest why it is refused.
    Crowd,
}

/// The connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(super) served: Arc<Places>,
    /// Above the limit, and still heard.
    crowd: Arc<Places>,
    told: IntCounter,
    closed: IntCounter,
}

impl Connections {
    /// Counts against `served`, and hears `crowd` more. `refused` counts these by `how`.
    pub(super) fn new(served: Places, crowd: usize, refused: &IntCounterVec) -> Self {
        Self {
            served: Arc::new(served),
            crowd: Arc::new(Places::new(crowd)),
            told: refused.with_label_values(&["told"]),
            closed: refused.with_label_values(&["closed"]),
        }
    }

    /// Lets a connection in; none: it is to be closed at once.
    pub(crate) fn admit(&self) -> Option<(Place, Standing)> {
        if let Some(place) = self.served.take() {
            return Some((place, Standing::Served));
        }
        match self.crowd.take() {
            Some(place) => {
                self.told.inc();
                Some((place, Standing::Crowd))
            }
            None => {
                self.closed.inc();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    #[test]
    fn the_next_are_told_and_those_after_them_closed() {
        let refused = IntCounterVec::new(Opts::new("refused", "refused"), &["how"]).unwrap();
        let connections = Connections::new(Places::new(2), 1, &refused);
        let mut places = Vec::new();
        for expected in [Standing::Served, Standing::Served, Standing::Crowd] {
            let (place, standing) = connections.admit().unwrap();
            assert_eq!(standing, expected);
            places.push(place);
        }
        assert!(connections.admit().is_none());
        assert_eq!((connections.told.get(), connections.closed.get()), (1, 1));
        drop(places.remove(0));
        assert_eq!(connections.admit().unwrap().1, Standing::Served);
    }
}
