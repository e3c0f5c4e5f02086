//! Callbacks: one thread runs all of them, in the order in which their items arrived.
//!
//! They run neither in the threads that call farexec, which may hold locks the callback wants, nor in the reactor, which has to
//! go on reading while they run.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use farexec_proto::ChannelId;
use farexec_proto::control::ErrorReport;
use parking_lot::{Condvar, Mutex};

use crate::inbox::{Delivery, Inbox};
use crate::link::Link;
use crate::receive_queue::Item;
use crate::sys;

/// What a callback is given, and what it may answer: an error closes its channel.
type Function = Box<dyn FnMut(Item) -> Result<(), ErrorReport> + Send>;

/// A function set on a channel.
pub(crate) struct Callback {
    function: Mutex<Function>,
    link: Weak<Link>,
    channel: ChannelId,
    failed: AtomicBool,
}

impl Callback {
    pub(crate) fn new(function: Function, link: Weak<Link>, channel: ChannelId) -> Self {
        Self { function: Mutex::new(function), link, channel, failed: AtomicBool::new(false) }
    }

    /// Has the callback thread call the function.
    pub(crate) fn push(self: &Arc<Self>, inbox: &Arc<Inbox>, delivery: Delivery) {
        Runner::current().push(Job::Deliver {
            callback: Arc::clone(self),
            inbox: Arc::clone(inbox),
            delivery,
        });
    }

    fn run(&self, inbox: &Inbox, delivery: Delivery) {
        let (item, is_end) = match delivery {
            Delivery::Item(payload) => (Item::Data(payload), false),
            Delivery::End(end) => (Item::End(end), true),
        };
        // Items that arrived behind the one that made it fail were never the callback's; the end always is.
        if is_end || !self.failed.load(Ordering::Relaxed) {
            let function = std::panic::AssertUnwindSafe(|| (self.function.lock())(item));
            let result = std::panic::catch_unwind(function)
                .unwrap_or_else(|_| Err(report("the callback panicked".into())));
            if let Err(report) = result
                && !self.failed.swap(true, Ordering::Relaxed)
                && let Some(link) = self.link.upgrade()
            {
                link.fail_channel(self.channel, &report);
            }
        }
        if !is_end
            && inbox.flow().is_some()
            && let Some(link) = self.link.upgrade()
        {
            link.item_taken(inbox);
        }
        if is_end {
            // What the function holds on to is often what holds on to the channel.
            let function = std::mem::replace(&mut *self.function.lock(), Box::new(|_| Ok(())));
            drop(function);
            inbox.set_drained();
            // Who waits for that may be reading, and what it waits for does not arrive from the far end.
            if let Some(link) = self.link.upgrade() {
                link.nudge();
            }
        }
    }
}

/// An error of which nothing is known but its text.
pub(crate) fn report(text: String) -> ErrorReport {
    ErrorReport { text, ..ErrorReport::default() }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("failed", &self.failed).finish_non_exhaustive()
    }
}

enum Job {
    Deliver { callback: Arc<Callback>, inbox: Arc<Inbox>, delivery: Delivery },
    Call(Box<dyn FnOnce() + Send>),
}

thread_local! {
    /// Whether this is the callback thread.
    static IS_RUNNER: Cell<bool> = const { Cell::new(false) };
}

/// Has the callback thread call a function, after all that it was given before; at once if this is that thread.
pub(crate) fn later(function: impl FnOnce() + Send + 'static) {
    if IS_RUNNER.get() {
        function();
    } else {
        Runner::current().push(Job::Call(Box::new(function)));
    }
}

/// Waits until the callback thread has done what it was given so far, but no longer than this.
pub(crate) fn settle(limit: Duration) {
    if IS_RUNNER.get() {
        return;
    }
    let (done, is_done) = mpsc::channel();
    later(move || {
        let _ = done.send(());
    });
    let _ = is_done.recv_timeout(limit);
}

/// The callback thread and its queue.
struct Runner {
    process: u32,
    jobs: Mutex<VecDeque<Job>>,
    ready: Condvar,
}

impl Runner {
    /// The runner of this process; a fork leaves the parent's behind.
    fn current() -> Arc<Self> {
        static CURRENT: Mutex<Option<Arc<Runner>>> = Mutex::new(None);
        let mut current = CURRENT.lock();
        match &*current {
            Some(runner) if runner.process == sys::process_id() => Arc::clone(runner),
            _ => {
                let runner = Arc::new(Self {
                    process: sys::process_id(),
                    jobs: Mutex::default(),
                    ready: Condvar::new(),
                });
                let background = Arc::clone(&runner);
                let thread = std::thread::Builder::new().name("farexec-callbacks".into());
                if let Err(error) = thread.spawn(move || background.work()) {
                    tracing::error!(%error, "no thread for callbacks could be started");
                }
                *current = Some(Arc::clone(&runner));
                runner
            }
        }
    }

    fn push(&self, job: Job) {
        self.jobs.lock().push_back(job);
        self.ready.notify_one();
    }

    fn work(&self) {
        sys::block_signals();
        IS_RUNNER.set(true);
        loop {
            let mut jobs = self.jobs.lock();
            while jobs.is_empty() {
                self.ready.wait(&mut jobs);
            }
            let batch = std::mem::take(&mut *jobs);
            drop(jobs);
            for job in batch {
                match job {
                    Job::Deliver { callback, inbox, delivery } => callback.run(&inbox, delivery),
                    Job::Call(function) => {
                        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(function)).is_err() {
                            tracing::error!("a function that takes workers' lines panicked");
                        }
                    }
                }
            }
        }
    }
}
