//! Ctrl-C: how often it was pressed. The first asks to come to an end, the second to end at once, the third does not wait for anything.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::exit;

/// The signals that ask this process to end, from now on counted instead.
pub(crate) struct Stop {
    count: Arc<AtomicUsize>,
    signals: Handle,
}

impl Stop {
    /// Begins to count. Whoever sends SIGTERM or SIGHUP does not ask twice: either counts as two.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let listen = move || {
            for signal in signals.forever() {
                let times = if signal == SIGINT { 1 } else { 2 };
                if counted.fetch_add(times, Ordering::SeqCst) >= 2 {
                    // Workers end with this process, however it ends.
                    std::process::exit(exit::STOPPED.into());
                }
            }
        };
        thread::Builder::new().name("farexec-signals".into()).spawn(listen)?;
        Ok(Self { count, signals: handle })
    }

    /// Whether nothing new is to be begun.
    pub(crate) fn is_asked(&self) -> bool {
        self.count.load(Ordering::SeqCst) >= 1
    }

    /// Whether what is going on is to be given up.
    pub(crate) fn is_pressed(&self) -> bool {
        self.count.load(Ordering::SeqCst) >= 2
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.signals.close();
    }
}
