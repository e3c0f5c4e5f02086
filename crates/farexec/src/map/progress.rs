//! How far a map is, as those who watch it are told.

use std::time::{Duration, Instant};

/// How far a map is.
///
/// ```
/// use farexec::{Function, MapOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateways(["popen"; 2])?;
/// let mut results = group.map::<_, f64>(&"math:sqrt".parse::<Function>()?, 0..100, MapOptions::default())?;
/// results.by_ref().take(60).collect::<Result<Vec<_>, _>>()?;
/// let progress = results.progress();
/// assert!(progress.done >= 60 && progress.failed == 0);
/// assert_eq!((progress.total, progress.workers.len()), (Some(100), 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// How many items have a result, those included that a journal had.
    pub done: u64,
    /// How many have none, and get none.
    pub failed: u64,
    /// How many workers have; each is at one of its own, and has the others ahead.
    pub running: u64,
    /// How many there are, once that is known.
    pub total: Option<u64>,
    /// The workers that are there now.
    pub workers: Vec<WorkerProgress>,
}

/// What one worker has done in a map, and how it spent its time, as seen from here: what the connection takes counts as work.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WorkerProgress {
    /// The id of its gateway.
    pub id: String,
    /// How many items it gave a result for.
    pub done: u64,
    /// How many it raised an error for.
    pub failed: u64,
    /// How many it has.
    pub running: u64,
    /// How long after the beginning of the map it joined: for one that replaces another, or was made meanwhile.
    pub start: Duration,
    /// How long it has had nothing to do since.
    pub wait: Duration,
    /// How long it has had something to do.
    pub work: Duration,
}

/// How a worker spends its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hours {
    joined: Instant,
    waited: Duration,
    idle_since: Option<Instant>,
}

impl Hours {
    pub(super) fn begin(now: Instant) -> Self {
        Self { joined: now, waited: Duration::ZERO, idle_since: Some(now) }
    }

    /// It has something to do.
    pub(super) fn works(&mut self, now: Instant) {
        if let Some(since) = self.idle_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// It has nothing to do.
    pub(super) fn waits(&mut self, now: Instant) {
        self.idle_since.get_or_insert(now);
    }

    /// How long after `began` it joined, has waited, and has worked.
    pub(super) fn sum(&self, began: Instant, now: Instant) -> (Duration, Duration, Duration) {
        let idle = self.idle_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let waited = self.waited + idle;
        let all = now.saturating_duration_since(self.joined);
        (self.joined.saturating_duration_since(began), waited, all.saturating_sub(waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_waits_or_works() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let seconds = |(a, b, c): (Duration, Duration, Duration)| (a.as_secs(), b.as_secs(), c.as_secs());
        let mut hours = Hours::begin(at(2));
        assert_eq!(seconds(hours.sum(began, at(3))), (2, 1, 0));
        hours.works(at(4));
        hours.works(at(5));
        assert_eq!(seconds(hours.sum(began, at(9))), (2, 2, 5));
        hours.waits(at(10));
        hours.waits(at(11));
        assert_eq!(seconds(hours.sum(began, at(12))), (2, 4, 6));
    }
}
