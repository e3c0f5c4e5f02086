//! Futures of what takes several steps, each of which may wait: it runs in a thread of its own.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::sys;
use crate::wait::Wait;

/// Runs `operation` in a thread of its own, from the first poll on, with a wait that is interrupted if the future is dropped. What it
/// returns all the same after that goes to `unwanted`.
pub(super) async fn apart<T: Send + 'static>(
    operation: impl FnOnce(&Wait<'_>) -> T + Send + 'static,
    unwanted: impl Fn(T) + Send + Sync + 'static,
) -> T {
    let job = Arc::new(Job {
        operation: Mutex::new(Some(operation)),
        unwanted,
        is_dropped: AtomicBool::new(false),
        state: Mutex::new(State { result: None, waker: None }),
    });
    let background = Arc::clone(&job);
    let thread = std::thread::Builder::new().name("farexec-apart".into());
    let spawned = thread.spawn(move || {
        sys::block_signals();
        background.run();
    });
    // It lives as long as the future.
    let guard = Guard(job);
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread could be started, so this one does the work, and blocks");
        guard.0.run();
    }
    let result = poll_fn(|context| {
        let mut state = guard.0.state.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                let before = state.waker.replace(context.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    });
    match result.await {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}

struct Job<T, O, U: Fn(T)> {
    operation: Mutex<Option<O>>,
    unwanted: U,
    is_dropped: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// What the operation returned, or what it panicked with.
    result: Option<Result<T, Box<dyn Any + Send>>>,
    waker: Option<Waker>,
}

impl<T, O: FnOnce(&Wait<'_>) -> T, U: Fn(T)> Job<T, O, U> {
    fn run(&self) {
        let Some(operation) = self.operation.lock().take() else { return };
        let is_dropped = &self.is_dropped;
        let is_dropped = || is_dropped.load(Ordering::SeqCst);
        let wait = Wait::forever();
        // What it leaves behind when it panics is dropped, or told of by the same panic.
        let result = catch_unwind(AssertUnwindSafe(|| operation(&wait.unless(&is_dropped))));
        let mut state = self.state.lock();
        if is_dropped() {
            drop(state);
            if let Ok(result) = result {
                (self.unwanted)(result);
            }
            return;
        }
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Says that the future is dropped.
struct Guard<T, O, U: Fn(T)>(Arc<Job<T, O, U>>);

impl<T, O, U: Fn(T)> Drop for Guard<T, O, U> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        self.0.is_dropped.store(true, Ordering::SeqCst);
        let (result, waker) = (state.result.take(), state.waker.take());
        drop(state);
        drop(waker);
        if let Some(Ok(result)) = result {
            (self.0.unwanted)(result);
        }
    }
}
