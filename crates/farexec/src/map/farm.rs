//! What becomes of items: which wait, which worker has which, which results are there. No IO and no clock, so that every course of
//! events can be tested.
//!
//! A worker answers in the order of its items. So of those it has, the first is the one it is at; the others it has not
//! begun, and if it dies, only the first is suspected of having killed it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use farexec_proto::Encoding;
use farexec_proto::encoding::{Encode, encode_item};

use super::{MapError, MapOptions, TaskError};
use crate::end::EndReason;
use crate::limits::{MAP_AHEAD, MAP_LEAST, MAP_MOST, MAP_WINDOW};
use crate::payload::Payload;

/// One item, encoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) index: u64,
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Vec<u8>,
    /// How many workers have died at it.
    deaths: u32,
}

/// What came of an item.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Answer(Payload),
    Error(TaskError),
}

/// How a worker ended that had items.
#[derive(Clone, Debug)]
pub(super) enum Death {
    /// It was not at fault, and no item was: the items go to others.
    Asked,
    /// Something ended it.
    Died(EndReason),
    /// It was ended because its item took too long.
    TimedOut(Duration),
}

#[derive(Debug)]
pub(super) struct Farm {
    options: MapOptions,
    /// The number of the next item.
    next: u64,
    /// How many results were taken.
    taken: u64,
    waiting: VecDeque<Task>,
    workers: HashMap<usize, Worker>,
    ready: Ready,
    /// Items whose results were there before.
    earlier: u64,
    /// What came of the items of workers that are gone, and what nothing came of.
    gone: Tally,
}

/// How many items something came of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    /// With a result.
    pub(super) done: u64,
    /// Without.
    pub(super) failed: u64,
}

#[derive(Debug)]
struct Worker {
    tally: Tally,
    has: VecDeque<Task>,
    /// How many it may have.
    limit: usize,
    /// How many it has answered since it was last given some.
    answered: usize,
}

/// Results that nobody has taken.
#[derive(Debug)]
enum Ready {
    AsTheyCome(VecDeque<(u64, Outcome)>),
    InOrder(HashMap<u64, Outcome>),
}

impl Farm {
    pub(super) fn new(options: MapOptions) -> Self {
        let ready = match options.ordered {
            true => Ready::InOrder(HashMap::new()),
            false => Ready::AsTheyCome(VecDeque::new()),
        };
        Self {
            options,
            next: 0,
            taken: 0,
            waiting: VecDeque::new(),
            workers: HashMap::new(),
            ready,
            earlier: 0,
            gone: Tally::default(),
        }
    }

    /// How many items workers have room for, beyond those that wait.
    pub(super) fn room(&self) -> usize {
        let room: usize = self.workers.values().map(Worker::room).sum();
        room.saturating_sub(self.waiting.len()).min(self.window())
    }

    /// How many more items may be on their way: results that nobody has taken are kept.
    fn window(&self) -> usize {
        let pending = usize::try_from(self.next - self.taken).unwrap_or(usize::MAX);
        self.options.max_pending.unwrap_or(MAP_WINDOW).max(1).saturating_sub(pending)
    }

    /// Makes a task of the next item.
    pub(super) fn task(&mut self, item: &impl Encode) -> Result<Task, MapError> {
        let index = self.next;
        let mut bytes = Vec::new();
        let encoding = encode_item(item, &mut bytes).map_err(|source| MapError::Item { index, source })?;
        self.next += 1;
        Ok(Task { index, encoding, bytes, deaths: 0 })
    }

    pub(super) fn put(&mut self, task: Task) {
        self.waiting.push_back(task);
    }

    /// A task whose result was there before.
    pub(super) fn put_done(&mut self, task: &Task, payload: Payload) {
        self.earlier += 1;
        self.ready.put(task.index, Outcome::Answer(payload));
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Outcome)> {
        let first = match &mut self.ready {
            Ready::AsTheyCome(results) => results.pop_front(),
            Ready::InOrder(results) => results.remove(&self.taken).map(|outcome| (self.taken, outcome)),
        }?;
        self.taken += 1;
        Some(first)
    }

    /// Whether a result can be taken now.
    pub(super) fn has_result(&self) -> bool {
        match &self.ready {
            Ready::AsTheyCome(results) => !results.is_empty(),
            Ready::InOrder(results) => results.contains_key(&self.taken),
        }
    }

    /// Whether nothing waits, nobody has anything, and no result is left.
    pub(super) fn is_idle(&self) -> bool {
        let is_taken = match &self.ready {
            Ready::AsTheyCome(results) => results.is_empty(),
            Ready::InOrder(results) => results.is_empty(),
        };
        is_taken && !self.has_work()
    }

    /// Whether something waits, or somebody is at something.
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.workers.values().any(|worker| !worker.has.is_empty())
    }

    pub(super) fn join(&mut self, worker: usize) {
        let limit = self.options.prefetch.unwrap_or(self.least()).max(1);
        self.workers
            .insert(worker, Worker { tally: Tally::default(), has: VecDeque::new(), limit, answered: 0 });
    }

    /// How many items a worker has at a time if they take long.
    fn least(&self) -> usize {
        if self.options.has_ahead { MAP_LEAST } else { 1 }
    }

    /// Whether a worker is at something.
    pub(super) fn is_busy(&self, worker: usize) -> bool {
        self.workers.get(&worker).is_some_and(|worker| !worker.has.is_empty())
    }

    /// Calls `give` with each item that a worker gets now; `since` is how long ago it was last given some.
    pub(super) fn give(&mut self, number: usize, since: Option<Duration>, mut give: impl FnMut(&Task)) {
        // Nobody gets more than a fair share of the last items.
        let share = self.waiting.len().div_ceil(self.workers.len().max(1));
        let least = self.least();
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if share == 0 || worker.room() == 0 {
            return;
        }
        if self.options.prefetch.is_none() && self.options.timeout.is_none() {
            worker.adapt(since, least);
        }
        for task in self.waiting.drain(..worker.room().min(share)) {
            give(&task);
            worker.has.push_back(task);
        }
    }

    /// What a worker is at.
    pub(super) fn task_of(&self, number: usize) -> Option<&Task> {
        self.workers.get(&number)?.has.front()
    }

    /// A worker has answered, with a result or not. Returns whether it is at something else now; nothing if it had not been asked.
    pub(super) fn answer(&mut self, number: usize, payload: Payload, is_result: bool) -> Option<bool> {
        let worker = self.workers.get_mut(&number)?;
        let task = worker.has.pop_front()?;
        worker.answered += 1;
        worker.tally.count(is_result);
        self.ready.put(task.index, Outcome::Answer(payload));
        Some(!worker.has.is_empty())
    }

    /// What came of the items so far, and how many workers are at.
    pub(super) fn tally(&self) -> (Tally, u64) {
        let mut sum = self.gone;
        sum.done += self.earlier;
        let mut running = 0;
        for worker in self.workers.values() {
            sum.add(worker.tally);
            running += worker.has.len() as u64;
        }
        (sum, running)
    }

    /// The same of one worker.
    pub(super) fn tally_of(&self, number: usize) -> Option<(Tally, u64)> {
        let worker = self.workers.get(&number)?;
        Some((worker.tally, worker.has.len() as u64))
    }

    /// A worker is gone: what it had goes to others.
    pub(super) fn lose(&mut self, number: usize, death: Death) {
        let Some(mut worker) = self.workers.remove(&number) else { return };
        self.gone.add(worker.tally);
        let suspect = match death {
            Death::Asked => None,
            _ => worker.has.pop_front(),
        };
        for task in worker.has.into_iter().rev() {
            self.waiting.push_front(task);
        }
        let Some(mut task) = suspect else { return };
        task.deaths += 1;
        match death {
            Death::TimedOut(limit) => self.give_up(&task, TaskError::TimedOut(limit)),
            Death::Died(reason) if task.deaths > self.options.retries => {
                let error = TaskError::WorkersDied { workers: task.deaths, reason };
                self.give_up(&task, error);
            }
            Death::Died(_) | Death::Asked => self.waiting.push_front(task),
        }
    }

    fn give_up(&mut self, task: &Task, error: TaskError) {
        self.gone.count(false);
        self.ready.put(task.index, Outcome::Error(error));
    }
}

impl Tally {
    fn count(&mut self, is_result: bool) {
        if is_result { self.done += 1 } else { self.failed += 1 }
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
    }
}

impl Worker {
    /// How many items to give it: none as long as it has enough, then many at once.
    fn room(&self) -> usize {
        if self.has.len() > self.limit / 2 { 0 } else { self.limit - self.has.len() }
    }

    /// It may have as many as it does in some milliseconds, so that it is never idle, and others get their share all the same.
    fn adapt(&mut self, since: Option<Duration>, least: usize) {
        let Some(since) = since else { return };
        let answered = std::mem::take(&mut self.answered);
        let share = MAP_AHEAD.as_secs_f64() / since.as_secs_f64().max(1e-6);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "cut off on both sides below"
        )]
        let wanted = (answered as f64 * share) as usize;
        self.limit = wanted.min(self.limit * 4).clamp(least, MAP_MOST);
    }
}

impl Ready {
    fn put(&mut self, index: u64, outcome: Outcome) {
        match self {
            Self::AsTheyCome(known) => known.push_back((index, outcome)),
            Self::InOrder(results) => drop(results.insert(index, outcome)),
        }
    }
}

#[cfg(test)]
mod tests {
    use farexec_proto::Value;
    use farexec_proto::encoding::StringCoercion;

    use super::*;
    use crate::end::Cause;

    fn put_item(farm: &mut Farm, item: &Value) {
        let task = farm.task(item).unwrap();
        farm.put(task);
    }

    /// Random numbers, the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % sides
        }
    }

    fn died() -> Death {
        Death::Died(EndReason::new("gw0", None, Cause::Exited(1), Vec::new()))
    }

    fn answer_of(task: &Task) -> Payload {
        let coercion = StringCoercion::default();
        Payload::new(task.encoding, task.bytes.clone(), coercion)
    }

    /// Workers come, answer and die in any order: every item has one outcome, and is with one worker at a time.
    fn run(seed: u64, options: MapOptions) -> Vec<(u64, Outcome)> {
        const ITEMS: u64 = 300;
        let mut dice = Dice(seed);
        let mut farm = Farm::new(options);
        let mut at: HashMap<usize, VecDeque<Task>> = HashMap::new();
        let (mut put, mut next_worker) = (0, 0);
        let mut outcomes = Vec::new();
        while outcomes.len() < ITEMS as usize {
            for _ in 0..farm.room().min((ITEMS - put) as usize) {
                put_item(&mut farm, &Value::from(put));
                put += 1;
            }
            match dice.roll(8) {
                0 if at.len() < 5 => {
                    farm.join(next_worker);
                    at.insert(next_worker, VecDeque::new());
                    next_worker += 1;
                }
                1 if !at.is_empty() => {
                    let number = *at.keys().nth(dice.roll(at.len())).unwrap();
                    at.remove(&number);
                    farm.lose(number, if dice.roll(2) == 0 { died() } else { Death::Asked });
                }
                _ => {
                    for (&number, tasks) in &mut at {
                        farm.give(number, Some(Duration::from_millis(dice.roll(40) as u64)), |task| {
                            tasks.push_back(task.clone());
                        });
                        for _ in 0..dice.roll(tasks.len() + 1) {
                            let task = tasks.pop_front().unwrap();
                            assert_eq!(farm.answer(number, answer_of(&task), true), Some(!tasks.is_empty()));
                        }
                    }
                }
            }
            let mut held: Vec<u64> = at.values().flatten().map(|task| task.index).collect();
            held.sort_unstable();
            held.dedup();
            assert_eq!(held.len(), at.values().map(VecDeque::len).sum::<usize>());
            outcomes.extend(std::iter::from_fn(|| farm.pop()));
        }
        assert!(farm.is_idle() && farm.pop().is_none());
        let (tally, running) = farm.tally();
        let failed =
            outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Error(_))).count() as u64;
        assert_eq!((tally, running), (Tally { done: 300 - failed, failed }, 0));
        outcomes
    }

    #[test]
    fn every_item_has_one_outcome_whatever_happens() {
        for seed in 0..200 {
            for ordered in [true, false] {
                let options = MapOptions { ordered, retries: 1, ..MapOptions::default() };
                let outcomes = run(seed, options);
                let mut indices: Vec<u64> = outcomes.iter().map(|(index, _)| *index).collect();
                if !ordered {
                    indices.sort_unstable();
                }
                assert_eq!(indices, (0..300).collect::<Vec<_>>());
                for (index, outcome) in outcomes {
                    match outcome {
                        Outcome::Answer(payload) => assert_eq!(payload.decode::<u64>().unwrap(), index),
                        Outcome::Error(TaskError::WorkersDied { workers, .. }) => assert_eq!(workers, 2),
                        Outcome::Error(error) => panic!("{error}"),
                    }
                }
            }
        }
    }

    #[test]
    fn no_more_wait_for_the_slowest_than_may() {
        for ordered in [true, false] {
            let mut farm = Farm::new(MapOptions { ordered, max_pending: Some(10), ..MapOptions::default() });
            farm.join(0);
            farm.join(1);
            let mut put = 0;
            for _ in 0..20 {
                for _ in 0..farm.room() {
                    put_item(&mut farm, &Value::from(put));
                    put += 1;
                }
                let mut given = Vec::new();
                // The first worker is at the first item for ever.
                farm.give(0, None, |_| {});
                farm.give(1, None, |task| given.push(task.clone()));
                for task in given {
                    farm.answer(1, answer_of(&task), true);
                }
            }
            assert_eq!(put, 10);
            assert_eq!(farm.pop().is_some(), !ordered);
            assert_eq!(farm.room() > 0, !ordered);
        }
    }

    #[test]
    fn only_the_item_that_a_worker_was_at_is_suspected() {
        let mut farm = Farm::new(MapOptions { retries: 0, prefetch: Some(4), ..MapOptions::default() });
        farm.join(0);
        (0..4).for_each(|item| put_item(&mut farm, &Value::from(item)));
        farm.give(0, None, |_| {});
        farm.lose(0, died());
        assert!(matches!(farm.pop(), Some((0, Outcome::Error(TaskError::WorkersDied { workers: 1, .. })))));
        farm.join(1);
        let mut given = Vec::new();
        farm.give(1, None, |task| given.push(task.index));
        assert_eq!(given, [1, 2, 3]);
    }

    #[test]
    fn a_fast_worker_gets_more_at_a_time_and_a_slow_one_two() {
        let mut farm = Farm::new(MapOptions::default());
        farm.join(0);
        for _ in 0..10 {
            (0..farm.room()).for_each(|_| put_item(&mut farm, &Value::None));
            let mut given = 0;
            farm.give(0, Some(Duration::from_micros(100)), |_| given += 1);
            let task = Task { index: 0, encoding: Encoding::Message, bytes: b"N.".to_vec(), deaths: 0 };
            (0..given).for_each(|_| assert!(farm.answer(0, answer_of(&task), true).is_some()));
        }
        assert!(farm.room() >= 512, "{}", farm.room());
        (0..farm.room()).for_each(|_| put_item(&mut farm, &Value::None));
        farm.give(0, Some(Duration::from_secs(1)), |_| {});
        assert!(farm.workers[&0].limit < 64, "{}", farm.workers[&0].limit);
    }
}
