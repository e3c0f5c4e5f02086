//! The workers of a map: having them join, giving them items, taking their answers, and replacing those that died.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use farexec_proto::encoding::{StringCoercion, dump};
use farexec_proto::frame::{self, Kind};
use farexec_proto::{Encoding, Value};
use parking_lot::Mutex;

use super::farm::{Death, Farm, Tally, Task};
use super::journal::Journal;
use super::progress::WorkerProgress;
use super::{MAPPER, MapError, MapOptions, is_result};
use crate::channel::Channel;
use crate::end::ChannelEnd;
use crate::error::StartError;
use crate::function::Function;
use crate::gateway::Gateway;
use crate::group::Group;
use crate::inbox::Delivery;
use crate::limits::{MAP_RESTART_PAUSE, MAP_RESTARTS};
use crate::payload::Payload;
use crate::receive_queue::Deliveries;
use crate::source::Source;
use crate::wait::{Wait, WaitError};
use crate::work::{self, Hours, Strand};

pub(super) struct Pool {
    group: Group,
    /// What every worker executes.
    mapper: Source,
    options: MapOptions,
    deliveries: Deliveries,
    began: Instant,
    /// How often all gateways of the group had been ended then.
    terminations: u64,
    workers: HashMap<usize, Worker>,
    next: usize,
    /// The state of the group that is known here.
    seen: Option<usize>,
    /// Every gateway that has joined, so that none joins twice.
    joined: Vec<Gateway>,
    restarting: usize,
    restarted: Arc<Mutex<Vec<Restarted>>>,
    failure: Option<StartError>,
    replacements: Vec<(String, Gateway)>,
    /// What those had done that were lost: by their ids, and then by those of the gateways in their places.
    lost: HashMap<String, WorkerProgress>,
    places: HashMap<String, WorkerProgress>,
    /// When something was last heard of a worker.
    heard: Instant,
    /// Whether somebody watches a worker.
    is_watched: bool,
}

struct Worker {
    gateway: Gateway,
    channel: Channel,
    /// When it was last given items.
    given: Option<Instant>,
    /// When it began with the item that it is at, if there is a limit on that.
    began: Option<Instant>,
    timed_out: bool,
    hours: Hours,
    /// Its tasks, if somebody watches.
    strand: Option<Strand>,
}

struct Restarted {
    of: String,
    result: Result<Gateway, StartError>,
}

impl Pool {
    pub(super) fn new(
        group: &Group,
        function: Option<&Function>,
        options: &MapOptions,
        farm: &mut Farm,
    ) -> Result<Self, MapError> {
        let initializer = options.initializer.as_ref();
        let initializer =
            initializer.map(|(function, arguments)| vec![function.to_value(), arguments.clone()]);
        let mapper = Source::text(MAPPER)
            .at("<farexec mapper>", 1)
            .call("serve")
            .part("map")
            .with("function", function.map_or(Value::None, Function::to_value))
            .with("star", options.star)
            .with("initializer", initializer.map_or(Value::None, Value::Tuple));
        let mut pool = Self {
            group: group.clone(),
            mapper,
            options: options.clone(),
            deliveries: Deliveries::default(),
            began: Instant::now(),
            terminations: group.terminations(),
            workers: HashMap::new(),
            next: 0,
            seen: None,
            joined: Vec::new(),
            restarting: 0,
            restarted: Arc::default(),
            failure: None,
            replacements: Vec::new(),
            lost: HashMap::new(),
            places: HashMap::new(),
            heard: Instant::now(),
            is_watched: false,
        };
        pool.join_new(farm)?;
        if pool.workers.is_empty() { Err(MapError::NoWorkers(None)) } else { Ok(pool) }
    }

    pub(super) fn nudge(&self) -> impl Fn() + Send + Sync + Clone + use<> {
        let deliveries = self.deliveries.clone();
        move || deliveries.nudge()
    }

    /// Has the gateways join that the group has got since the last look.
    pub(super) fn join_new(&mut self, farm: &mut Farm) -> Result<(), MapError> {
        let version = self.group.version();
        if self.seen.replace(version) == Some(version) {
            return Ok(());
        }
        for gateway in self.group.gateways() {
            if gateway.is_alive() && !self.joined.contains(&gateway) {
                self.joined.push(gateway.clone());
                self.join(gateway, farm)?;
            }
        }
        Ok(())
    }

    fn join(&mut self, gateway: Gateway, farm: &mut Farm) -> Result<(), MapError> {
        let channel = match gateway.remote_exec(self.mapper.clone()) {
            Ok(channel) => channel,
            // It has ended a moment ago.
            Err(_) if !gateway.is_alive() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let number = self.next;
        self.next += 1;
        let hours = Hours::begin(Instant::now());
        let strand = gateway.link().work().map(|work| Strand::begin(work, "map"));
        let worker = Worker { gateway, channel, given: None, began: None, timed_out: false, hours, strand };
        if self.deliveries.add(&worker.channel, number).is_ok() {
            self.is_watched |= worker.strand.is_some();
            self.workers.insert(number, worker);
            farm.join(number);
        }
        Ok(())
    }

    /// Gives every worker the items that it has room for.
    pub(super) fn dispatch(&mut self, farm: &mut Farm) {
        let mut frames = Vec::new();
        // Those that are idle come first: nothing waits behind another item while somebody is free.
        let (mut order, busy): (Vec<usize>, Vec<usize>) =
            self.workers.keys().partition(|number| !farm.is_busy(**number));
        order.extend(busy);
        for number in order {
            let Some(worker) = self.workers.get_mut(&number) else { continue };
            let now = Instant::now();
            let since = worker.given.map(|given| now.duration_since(given));
            let reads_message = worker.gateway.link().reads_message();
            let id = worker.channel.id();
            let was_busy = farm.is_busy(number);
            let strand = &mut worker.strand;
            farm.give(number, since, |task| {
                write_item(&mut frames, id, task, reads_message);
                if let Some(strand) = strand {
                    strand.give(work::Task::Item(task.index), now);
                }
            });
            if frames.is_empty() {
                continue;
            }
            worker.given = Some(now);
            worker.hours.works(now);
            if !was_busy {
                worker.began = self.options.timeout.map(|_| now);
            }
            // A worker that is gone is told of by its channel, and its items go to others then.
            let _ = worker.gateway.link().send(&frames);
            frames.clear();
        }
    }

    /// Waits until something has happened, and takes it in; results are in the journal then.
    pub(super) fn wait(
        &mut self,
        farm: &mut Farm,
        journal: &mut Option<Journal>,
        wait: &Wait<'_>,
    ) -> Result<(), MapError> {
        if self.workers.is_empty() && self.restarting == 0 {
            self.join_new(farm)?;
            if self.workers.is_empty() {
                return Err(MapError::NoWorkers(self.failure.take()));
            }
        }
        let limited = match self.next_timeout() {
            Some(deadline) => wait.until(deadline),
            None => *wait,
        };
        match self.deliveries.take_all(&limited) {
            Ok(deliveries) => {
                let now = Instant::now();
                self.heard = now;
                for (number, delivery) in deliveries {
                    self.take(number, delivery, now, farm, journal)?;
                }
                journal.as_mut().map_or(Ok(()), Journal::write)?;
            }
            Err(WaitError::Timeout) if self.end_what_takes_too_long() => {}
            Err(error) => return Err(error.into()),
        }
        for Restarted { of, result } in std::mem::take(&mut *self.restarted.lock()) {
            self.restarting -= 1;
            match result {
                Ok(gateway) => {
                    if let Some(progress) = self.lost.remove(&of) {
                        self.places.insert(gateway.id().to_owned(), progress);
                    }
                    self.replacements.push((of, gateway));
                }
                Err(error) => {
                    tracing::warn!(gateway = of, %error, "a worker of a map could not be replaced");
                    self.failure = Some(error);
                }
            }
        }
        self.join_new(farm)
    }

    fn take(
        &mut self,
        number: usize,
        delivery: Delivery,
        now: Instant,
        farm: &mut Farm,
        journal: &mut Option<Journal>,
    ) -> Result<(), MapError> {
        let end = match delivery {
            Delivery::Item(payload) => {
                self.take_answer(number, payload, now, farm, journal);
                return Ok(());
            }
            Delivery::End(end) => end,
        };
        let Some(worker) = self.workers.remove(&number) else { return Ok(()) };
        let death = match (end, self.options.timeout) {
            (ChannelEnd::Error(error), _) => return Err(MapError::Function(error)),
            (ChannelEnd::Gateway(_), Some(limit)) if worker.timed_out => Death::TimedOut(limit),
            (ChannelEnd::Gateway(reason), _) if !reason.is_orderly() => Death::Died(reason),
            _ => Death::Asked,
        };
        let is_replaced = self.options.replace && !matches!(death, Death::Asked);
        if is_replaced && let Some(progress) = self.progress_of(number, &worker, farm, now) {
            self.lost.insert(progress.id.clone(), progress);
        }
        self.places.remove(worker.gateway.id());
        farm.lose(number, death);
        if is_replaced {
            self.replace(&worker.gateway);
        }
        Ok(())
    }

    fn take_answer(
        &mut self,
        number: usize,
        payload: Payload,
        now: Instant,
        farm: &mut Farm,
        journal: &mut Option<Journal>,
    ) {
        let is_result = is_result(&payload);
        if is_result && let (Some(journal), Some(task)) = (journal, farm.task_of(number)) {
            journal.keep(task, &payload);
        }
        let Some(is_busy) = farm.answer(number, payload, is_result) else { return };
        if is_busy && self.options.timeout.is_none() && !self.is_watched {
            return;
        }
        if let Some(worker) = self.workers.get_mut(&number) {
            if let Some(strand) = &mut worker.strand {
                strand.answered(is_result, now);
            }
            worker.began = (is_busy && self.options.timeout.is_some()).then_some(now);
            if !is_busy {
                worker.hours.waits(now);
            }
        }
    }

    /// What each worker that is there has done. `is_over`: nothing more happens.
    pub(super) fn progress(&self, farm: &Farm, is_over: bool) -> Vec<WorkerProgress> {
        let now = if is_over { self.heard } else { Instant::now() };
        let mut workers: Vec<_> = self.workers.iter().collect();
        workers.sort_unstable_by_key(|(number, _)| **number);
        let progress = |(number, worker): (&usize, _)| self.progress_of(*number, worker, farm, now);
        workers.into_iter().filter_map(progress).collect()
    }

    fn progress_of(
        &self,
        number: usize,
        worker: &Worker,
        farm: &Farm,
        now: Instant,
    ) -> Option<WorkerProgress> {
        let (tally, running) = farm.tally_of(number)?;
        let (start, wait, work) = worker.hours.sum(self.began, now);
        let id = worker.gateway.id().to_owned();
        let Tally { done, failed } = tally;
        let mut progress = WorkerProgress { id, done, failed, running, start, wait, work, restarts: 0 };
        if let Some(lost) = self.places.get(&progress.id) {
            progress.add(lost);
        }
        Some(progress)
    }

    /// Starts another worker from the same spec, in a thread of its own.
    fn replace(&mut self, gateway: &Gateway) {
        self.group.replace(gateway);
        let mut spec = gateway.spec().clone();
        spec.id = None;
        let (of, reason) = (gateway.id().to_owned(), gateway.end_reason().cloned());
        let (group, restarted) = (self.group.clone(), Arc::clone(&self.restarted));
        let (deliveries, terminations) = (self.deliveries.clone(), self.terminations);
        let start = move || {
            let mut tries = 0;
            let result = loop {
                tries += 1;
                match group.start_unless_ended(spec.clone(), terminations) {
                    Err(StartError::Terminated) => break Err(StartError::Terminated),
                    Err(_) if tries < MAP_RESTARTS => std::thread::sleep(MAP_RESTART_PAUSE),
                    result => break result,
                }
            };
            if let Ok(gateway) = &result
                && let Some(work) = gateway.link().work()
            {
                work.replaces(&of, reason.as_ref());
            }
            restarted.lock().push(Restarted { of, result });
            deliveries.nudge();
        };
        match std::thread::Builder::new().name("farexec-restart".into()).spawn(start) {
            Ok(_) => self.restarting += 1,
            Err(error) => self.failure = Some(error.into()),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let limit = self.options.timeout?;
        let running = self.workers.values().filter(|worker| !worker.timed_out);
        running.filter_map(|worker| worker.began?.checked_add(limit)).min()
    }

    /// Ends the workers whose time for one item is over; what they had is known once they are gone. Returns whether there are any.
    fn end_what_takes_too_long(&mut self) -> bool {
        let Some(limit) = self.options.timeout else { return false };
        let now = Instant::now();
        let mut any = false;
        for worker in self.workers.values_mut() {
            let is_late = worker.began.is_some_and(|began| now.duration_since(began) >= limit);
            if is_late && !worker.timed_out {
                worker.timed_out = true;
                any = true;
                worker.gateway.kill();
            }
        }
        any
    }

    pub(super) fn take_replacements(&mut self) -> Vec<(String, Gateway)> {
        std::mem::take(&mut self.replacements)
    }
}

/// Appends the frame of an item, in an encoding that the worker reads.
fn write_item(frames: &mut Vec<u8>, id: farexec_proto::ChannelId, task: &Task, reads_message: bool) {
    if task.encoding == Encoding::Dump || reads_message {
        frame::write(frames, Kind::Item, task.encoding, id, &task.bytes);
        return;
    }
    let coercion = StringCoercion::default();
    let mut dumped = Vec::new();
    // What was encoded here is an item in either encoding.
    if let Ok(value) = Value::from_payload(task.encoding, &task.bytes, coercion)
        && dump::encode(&value, &mut dumped).is_ok()
    {
        frame::write(frames, Kind::Item, Encoding::Dump, id, &dumped);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A worker that is at something finds its channel closed when it is done with that.
        self.workers.values().for_each(|worker| {
            worker.channel.close();
        });
    }
}
