//! The reactor: one thread that serves every gateway that nobody waits on, the outputs that are full, the standard errors and
//! exits of workers, and timers.
//!
//! It is lazy on purpose. A thread in `receive` reads its gateway itself; the reactor finds that out when the first byte wakes it, and
//! then *stands by*: it looks again every [`STANDBY`], takes the gateway back when nobody has read it in between, and forgets about it
//! when somebody sits waiting on it, who then gives it back ([`Watched`](crate::watch::Watched) has the states).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::limits::STANDBY;
use crate::sys::{self, Interest, Poller};

/// Something that the reactor serves when its descriptor is ready.
pub(crate) trait Source: Send + Sync {
    /// The descriptor is ready. It is told once; the source asks for more with [`Reactor::rearm`].
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>);
}

/// A source that threads take over while they wait.
pub(crate) trait Standby: Send + Sync {
    /// Looks whether to take the source back. Returns whether to look again after another [`STANDBY`].
    fn look(self: Arc<Self>, reactor: &Arc<Reactor>) -> bool;
}

type Timer = Box<dyn FnOnce(&Arc<Reactor>) + Send>;

pub(crate) struct Reactor {
    process: u32,
    poller: Poller,
    sources: Mutex<HashMap<usize, Arc<dyn Source>>>,
    standing_by: Mutex<Vec<Arc<dyn Standby>>>,
    timers: Mutex<BTreeMap<(Instant, u64), Timer>>,
    timer_count: AtomicU64,
}

impl Reactor {
    /// The reactor of this process, started if need be; a fork leaves the parent's behind.
    pub(crate) fn current() -> io::Result<Arc<Self>> {
        static CURRENT: Mutex<Option<Arc<Reactor>>> = Mutex::new(None);
        let mut current = CURRENT.lock();
        if let Some(reactor) = &*current
            && reactor.process == sys::process_id()
        {
            return Ok(Arc::clone(reactor));
        }
        let reactor = Arc::new(Self {
            process: sys::process_id(),
            poller: Poller::new()?,
            sources: Mutex::default(),
            standing_by: Mutex::default(),
            timers: Mutex::default(),
            timer_count: AtomicU64::new(0),
        });
        let background = Arc::clone(&reactor);
        std::thread::Builder::new().name("farexec-reactor".into()).spawn(move || background.work())?;
        // The parent's, in a child, is leaked: its locks may be held by threads that the fork did not copy.
        std::mem::forget(current.replace(Arc::clone(&reactor)));
        Ok(reactor)
    }

    /// Serves a descriptor from now on. Returns the key it is known by.
    pub(crate) fn add(
        &self,
        fd: Arc<OwnedFd>,
        interest: Interest,
        source: impl FnOnce(usize) -> Arc<dyn Source>,
    ) -> io::Result<usize> {
        // Held over the registration, so that readiness finds its source.
        let mut sources = self.sources.lock();
        let key = self.poller.add(fd, interest)?;
        sources.insert(key, source(key));
        Ok(key)
    }

    /// Asks for one more readiness.
    pub(crate) fn rearm(&self, key: usize, interest: Interest) {
        if let Err(error) = self.poller.rearm(key, interest) {
            tracing::error!(%error, "the reactor lost a descriptor");
        }
    }

    /// Asks for no readiness for now.
    pub(crate) fn pause(&self, key: usize) {
        self.poller.pause(key);
    }

    pub(crate) fn remove(&self, key: usize) {
        let mut sources = self.sources.lock();
        self.poller.remove(key);
        let source = sources.remove(&key);
        drop(sources);
        // What hangs on it may come back here as it goes.
        drop(source);
    }

    /// Has the reactor look after a source that a thread took over.
    pub(crate) fn stand_by(&self, source: Arc<dyn Standby>) {
        self.standing_by.lock().push(source);
    }

    /// Has `timer` called at a time.
    pub(crate) fn at(&self, time: Instant, timer: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let number = self.timer_count.fetch_add(1, Ordering::Relaxed);
        let mut timers = self.timers.lock();
        let is_first = timers.first_key_value().is_none_or(|((first, _), _)| time < *first);
        timers.insert((time, number), Box::new(timer));
        drop(timers);
        if is_first {
            self.poller.wake();
        }
    }

    fn work(self: Arc<Self>) {
        sys::block_signals();
        let mut ready = Vec::new();
        let mut last_look = Instant::now();
        loop {
            if let Err(error) = self.poller.wait(&mut ready, self.nap(last_look)) {
                tracing::error!(%error, "the reactor cannot wait for anything");
                std::thread::sleep(STANDBY);
            }
            for readiness in ready.drain(..) {
                let source = self.sources.lock().get(&readiness.key).cloned();
                if let Some(source) = source {
                    source.ready(&self);
                }
            }
            let now = Instant::now();
            self.run_timers(now);
            if now - last_look >= STANDBY {
                last_look = now;
                let standing_by = std::mem::take(&mut *self.standing_by.lock());
                for source in standing_by {
                    if Arc::clone(&source).look(&self) {
                        self.stand_by(source);
                    }
                }
            }
        }
    }

    fn nap(&self, last_look: Instant) -> Option<std::time::Duration> {
        let now = Instant::now();
        let next_look = (!self.standing_by.lock().is_empty()).then(|| last_look + STANDBY);
        let next_timer = self.timers.lock().first_key_value().map(|((time, _), _)| *time);
        let next = match (next_look, next_timer) {
            (Some(look), Some(timer)) => Some(look.min(timer)),
            (look, timer) => look.or(timer),
        };
        next.map(|next| next.saturating_duration_since(now))
    }

    fn run_timers(self: &Arc<Self>, now: Instant) {
        loop {
            let mut timers = self.timers.lock();
            match timers.first_entry() {
                Some(entry) if entry.key().0 <= now => {
                    let timer = entry.remove();
                    drop(timers);
                    timer(self);
                }
                _ => return,
            }
        }
    }
}
