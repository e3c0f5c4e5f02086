//! Which workers answer, asked by a thread of its own: a host that hangs is told from one that computes.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use farexec::{Gateway, Group, Wait};

/// How long a worker has to answer. It does so even while it computes.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the thread rests after it has asked all.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a worker has not answered when that is worth telling.
const SILENT: Duration = Duration::from_secs(3);

/// When each gateway's worker answered last.
type Answered = Arc<Mutex<HashMap<String, Instant>>>;

/// Asks the workers of a group, again and again, until it is dropped.
pub(super) struct Pulse {
    answered: Answered,
    is_over: Arc<AtomicBool>,
}

impl Pulse {
    pub(super) fn begin(group: &Group) -> io::Result<Self> {
        let pulse = Self { answered: Answered::default(), is_over: Arc::default() };
        let (answered, is_over) = (Arc::clone(&pulse.answered), Arc::clone(&pulse.is_over));
        let group = group.clone();
        let ask = move || {
            while !is_over.load(Ordering::Relaxed) {
                for gateway in group.gateways() {
                    let answers = gateway.remote_status(&Wait::at_most(PATIENCE)).is_ok();
                    let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
                    // One that has never answered is silent from now on, too.
                    let last = answered.entry(gateway.id().to_owned()).or_insert_with(Instant::now);
                    if answers {
                        *last = Instant::now();
                    }
                }
                thread::sleep(PAUSE);
            }
        };
        thread::Builder::new().name("farexec-pulse".into()).spawn(ask)?;
        Ok(pulse)
    }

    /// How a worker is, in a word or two.
    pub(super) fn state(&self, gateway: &Gateway) -> String {
        if !gateway.is_alive() {
            return "gone".into();
        }
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        match answered.get(gateway.id()).map(Instant::elapsed) {
            Some(silence) if silence >= SILENT => format!("silent for {} s", silence.as_secs()),
            _ => "up".into(),
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
