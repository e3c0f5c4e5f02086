//! What a worker is given to do, and how it spends its time: the one account of it, for the progress of maps, the monitor and the trace.
//!
//! A worker does the tasks of one map, or the calls over one lane, one after the other: they are a [`Strand`]. It knows what the worker
//! has, and so when it began with what; who has a strand says what is given and what is answered. Times are taken here, at
//! the coordinator: what the connection takes counts as work. Nothing but a map's [`Hours`] is kept unless somebody watches: a
//! gateway has [`Work`] then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde_json::json;

use crate::end::EndReason;
use crate::monitor;
use crate::sys;
use crate::timeline::{Row, Timeline, Track};

/// How a worker spends its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hours {
    joined: Instant,
    waited: Duration,
    idle_since: Option<Instant>,
}

impl Hours {
    pub(crate) fn begin(now: Instant) -> Self {
        Self { joined: now, waited: Duration::ZERO, idle_since: Some(now) }
    }

    /// It has something to do.
    pub(crate) fn works(&mut self, now: Instant) {
        if let Some(since) = self.idle_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// It has nothing to do.
    pub(crate) fn waits(&mut self, now: Instant) {
        self.idle_since.get_or_insert(now);
    }

    /// How long after `began` it joined, has waited, and has worked.
    pub(crate) fn sum(&self, began: Instant, now: Instant) -> (Duration, Duration, Duration) {
        let idle = self.idle_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let waited = self.waited + idle;
        let all = now.saturating_duration_since(self.joined);
        (self.joined.saturating_duration_since(began), waited, all.saturating_sub(waited))
    }
}

/// What a gateway's worker has done, as long as somebody watches.
#[derive(Debug)]
pub(crate) struct Work {
    began: Instant,
    track: Option<Track>,
    sum: Mutex<Sum>,
    generation: u32,
}

/// What there is to say of a gateway.
#[derive(Debug, Default)]
struct Sum {
    executions: u64,
    tasks: u64,
    done: u64,
    failed: u64,
    /// Since its worker has answered.
    hours: Option<Hours>,
    ended: Option<Instant>,
    /// Rows of the track that nobody uses at present.
    rows: Vec<(&'static str, Row)>,
}

/// The same, as it is now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Executions whose channels are open.
    pub(crate) executions: u64,
    /// Tasks and calls that it was given and has not answered.
    pub(crate) tasks: u64,
    /// How many it gave a result for.
    pub(crate) done: u64,
    /// For how many it raised an error.
    pub(crate) failed: u64,
    /// How long its worker took to start.
    pub(crate) start: Duration,
    /// How long it has had no task and no call since.
    pub(crate) wait: Duration,
    /// How long it has had some.
    pub(crate) work: Duration,
}

impl Work {
    /// The account of a gateway that began to start, if somebody watches.
    pub(crate) fn begin(id: &str, began: Instant, timeline: Option<Arc<Timeline>>) -> Option<Arc<Self>> {
        if timeline.is_none() && !monitor::is_on() {
            return None;
        }
        let track = timeline.map(|timeline| Track::begin(timeline, id));
        Some(Arc::new(Self { began, track, sum: Mutex::default(), generation: sys::generation() }))
    }

    /// The sum, unless this is the child of a fork, where it may be locked for ever.
    fn sum(&self) -> Option<MutexGuard<'_, Sum>> {
        (self.generation == sys::generation()).then(|| self.sum.lock())
    }

    /// The worker has answered; only the first time counts.
    pub(crate) fn started(&self, pid: Option<u32>) {
        let now = Instant::now();
        let Some(mut sum) = self.sum() else { return };
        if sum.hours.is_some() {
            return;
        }
        sum.hours = Some(Hours::begin(now));
        drop(sum);
        if let Some(track) = &self.track {
            track.span(track.life(), "life", "start", (self.began, now), &json!({"pid": pid}));
        }
    }

    /// The gateway has ended; only the first reason counts.
    pub(crate) fn ended(&self, reason: &EndReason) {
        let Some(mut sum) = self.sum() else { return };
        if sum.ended.is_some() {
            return;
        }
        sum.ended = Some(Instant::now());
        drop(sum);
        if let Some(track) = &self.track {
            track.instant("end", &json!({"reason": reason.to_string()}));
        }
    }

    /// It is there because another one was lost.
    pub(crate) fn replaces(&self, lost: &str, reason: Option<&EndReason>) {
        if let Some(track) = &self.track {
            track.instant("restart", &json!({"of": lost, "reason": reason.map(ToString::to_string)}));
        }
    }

    /// All of it.
    pub(crate) fn told(&self) -> Told {
        let Some(sum) = self.sum() else { return Told::default() };
        let now = sum.ended.unwrap_or_else(Instant::now);
        let times = sum.hours.map(|hours| hours.sum(self.began, now));
        let (start, wait, work) = times.unwrap_or_default();
        let Sum { executions, tasks, done, failed, .. } = *sum;
        Told { executions, tasks, done, failed, start, wait, work }
    }
}

impl Sum {
    fn given(&mut self, now: Instant) {
        self.tasks += 1;
        if let Some(hours) = &mut self.hours {
            hours.works(now);
        }
    }

    /// `is_result`: nothing if there was no answer.
    fn answered(&mut self, is_result: Option<bool>, now: Instant) {
        self.tasks = self.tasks.saturating_sub(1);
        match is_result {
            Some(true) => self.done += 1,
            Some(false) => self.failed += 1,
            None => {}
        }
        if self.tasks == 0
            && let Some(hours) = &mut self.hours
        {
            hours.waits(now);
        }
    }
}

/// An execution that a user began, as long as its channel is open. Others of the same worker may go on beside it.
#[derive(Debug)]
pub(crate) struct Execution {
    work: Arc<Work>,
    name: String,
    number: Option<u64>,
}

impl Execution {
    const CATEGORY: &'static str = "execution";

    pub(crate) fn begin(work: &Arc<Work>, name: String) -> Self {
        if let Some(mut sum) = work.sum() {
            sum.executions += 1;
        }
        let number = work.track.as_ref().map(|track| track.begin_beside(Self::CATEGORY, &name));
        Self { work: Arc::clone(work), name, number }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if let Some(mut sum) = self.work.sum() {
            sum.executions = sum.executions.saturating_sub(1);
        }
        if let (Some(track), Some(number)) = (&self.work.track, self.number) {
            track.end_beside(Self::CATEGORY, &self.name, number);
        }
    }
}

/// What one worker does for one map or lane, one task after the other, for those who watch.
#[derive(Debug)]
pub(crate) struct Strand {
    work: Arc<Work>,
    category: &'static str,
    /// Where the trace has it.
    row: Option<Row>,
    /// What the worker has, each with the time at which it was given.
    given: VecDeque<(Task, Instant)>,
    /// When the worker could begin with the first of them.
    free: Instant,
}

/// What is done.
#[derive(Debug)]
pub(crate) enum Task {
    /// An item of a map, by its position.
    Item(u64),
    /// A call of a function, by its name.
    Call(String),
}

impl Strand {
    /// `category` is what there is to do: `map` or `calls`.
    pub(crate) fn begin(work: &Arc<Work>, category: &'static str) -> Self {
        let kept = work.sum().and_then(|mut sum| {
            let position = sum.rows.iter().position(|(name, _)| *name == category)?;
            Some(sum.rows.swap_remove(position).1)
        });
        let row = kept.or_else(|| work.track.as_ref().map(|track| track.row(category)));
        Self { work: Arc::clone(work), category, row, given: VecDeque::new(), free: Instant::now() }
    }

    /// The worker was given a task.
    pub(crate) fn give(&mut self, task: Task, now: Instant) {
        if let Some(mut sum) = self.work.sum() {
            sum.given(now);
        }
        self.given.push_back((task, now));
    }

    /// The worker has answered the first of its tasks.
    pub(crate) fn answered(&mut self, is_result: bool, now: Instant) {
        self.end(Some(is_result), now);
    }

    fn end(&mut self, is_result: Option<bool>, now: Instant) {
        let Some((task, given)) = self.given.pop_front() else { return };
        if let Some(mut sum) = self.work.sum() {
            sum.answered(is_result, now);
        }
        let begun = given.max(self.free);
        self.free = now.max(begun);
        let (Some(track), Some(row)) = (&self.work.track, self.row) else { return };
        let outcome = match is_result {
            Some(true) => "result",
            Some(false) => "error",
            None => "none",
        };
        let waited = begun.saturating_duration_since(given).as_secs_f64();
        let worked = self.free.saturating_duration_since(begun).as_secs_f64();
        let mut args = json!({"outcome": outcome, "wait_seconds": waited, "work_seconds": worked});
        let name = match task {
            Task::Item(index) => {
                args["item"] = json!(index);
                format!("item {index}")
            }
            Task::Call(name) => name,
        };
        track.span(row, self.category, &name, (begun, self.free), &args);
    }
}

impl Drop for Strand {
    /// Nobody waits for answers any more, or the worker is gone. It had not begun with any but the first of what it had.
    fn drop(&mut self) {
        let now = self.work.sum().and_then(|sum| sum.ended).unwrap_or_else(Instant::now);
        let unbegun = self.given.len().saturating_sub(1);
        self.given.truncate(1);
        if let Some(mut sum) = self.work.sum() {
            sum.tasks = sum.tasks.saturating_sub(unbegun as u64);
        }
        self.end(None, now);
        if let (Some(mut sum), Some(row)) = (self.work.sum(), self.row) {
            sum.rows.push((self.category, row));
        }
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

    #[test]
    fn what_was_not_begun_is_no_work_of_a_worker_that_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let began = Instant::now();
        let work = Work::begin("gw0", began, Some(Timeline::create(&path).unwrap())).unwrap();
        work.started(None);
        let execution = Execution::begin(&work, "code".into());
        let at = |milliseconds| began + Duration::from_millis(milliseconds);
        for _ in 0..2 {
            let mut strand = Strand::begin(&work, "map");
            strand.free = began;
            (0..4).for_each(|index| strand.give(Task::Item(index), at(1_000)));
            strand.answered(true, at(1_002));
            strand.answered(false, at(1_005));
            let told = work.told();
            assert_eq!((told.executions, told.tasks), (1, 2));
        }
        drop(execution);
        let told = work.told();
        assert_eq!((told.executions, told.tasks, told.done, told.failed), (0, 0, 2, 2));
        let text = std::fs::read_to_string(path).unwrap();
        let events: Vec<serde_json::Value> = serde_json::from_str(&format!("{text}]")).unwrap();
        let tasks: Vec<_> = events.iter().filter(|event| event["cat"] == "map").collect();
        let shown = |key: &str| tasks.iter().map(|event| event["args"][key].to_string()).collect::<Vec<_>>();
        assert_eq!(shown("item"), ["0", "1", "2", "0", "1", "2"]);
        assert_eq!(shown("outcome")[..3], ["\"result\"", "\"error\"", "\"none\""]);
        assert_eq!(shown("wait_seconds")[..2], ["0.0", "0.002"]);
        assert_eq!(shown("work_seconds")[..2], ["0.002", "0.003"]);
        // The second strand has the row of the first.
        assert!(tasks.iter().all(|event| event["tid"] == tasks[0]["tid"]));
    }
}
