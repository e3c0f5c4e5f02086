//! How far a map is, as those who watch it are told.

use std::time::Duration;

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

/// What one worker has done in a map, and how it spent its time, as seen from here: what the connection takes counts as work. What those have
/// done whose place it took is counted in.
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
    /// How long after the beginning of the map it joined: for one that takes the place of another, or was made meanwhile.
    pub start: Duration,
    /// How long it has had nothing to do since.
    pub wait: Duration,
    /// How long it has had something to do.
    pub work: Duration,
    /// How many workers were lost whose place it took, one after the other.
    pub restarts: u64,
}

impl WorkerProgress {
    /// Takes the place of one that was lost.
    pub(super) fn add(&mut self, lost: &Self) {
        self.done += lost.done;
        self.failed += lost.failed;
        self.wait += lost.wait;
        self.work += lost.work;
        self.restarts += lost.restarts + 1;
    }
}
