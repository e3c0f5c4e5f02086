//! The process behind a gateway: when it exits and how, what it said on its standard error, and that nothing of it stays behind.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::limits::{STDERR_BYTES, STDERR_LINES, TERM_TO_KILL};
use crate::link::Link;
use crate::output::{Lines, PipeOutput};
use crate::reactor::{Reactor, Source};
use crate::sys::{self, Interest, Process, Transfer};
use crate::template::Template;

/// A worker's process on this machine.
pub(crate) struct Supervisor {
    /// Which process looks after it; the child of a fork leaves it alone.
    generation: u32,
    /// Empty until a template has forked it.
    process: OnceLock<Process>,
    template: Option<Arc<Template>>,
    /// Why a template did not fork it.
    no_worker: OnceLock<NoWorker>,
    /// How it exited, once it has; `None` inside if somebody else in this program waited for it.
    exit: OnceLock<Option<ExitStatus>>,
    /// Held while the group may be signalled, so that the process is not let go of in between.
    alive: Mutex<bool>,
    /// Whether what the worker started is to end with it even if the worker ends in order.
    sweep: AtomicBool,
    killed: AtomicBool,
    stderr: Option<Arc<Stderr>>,
    /// The read end of its standard output, if that is forwarded.
    stdout: OnceLock<Arc<PipeOutput>>,
    link: OnceLock<Weak<Link>>,
}

impl Supervisor {
    /// Looks after a process from now on; `stderr` is the read end of its standard error, if that is ours to read, and `shown` what
    /// becomes of it besides being kept.
    pub(crate) fn new(process: Process, stderr: Option<OwnedFd>, shown: Shown) -> Self {
        Self { process: OnceLock::from(process), ..Self::expecting(None, stderr, shown) }
    }

    /// The same for a process that a template will fork.
    pub(crate) fn forked(template: &Arc<Template>, stderr: Option<OwnedFd>, shown: Shown) -> Self {
        Self::expecting(Some(Arc::clone(template)), stderr, shown)
    }

    fn expecting(template: Option<Arc<Template>>, stderr: Option<OwnedFd>, shown: Shown) -> Self {
        let kept = Mutex::new((Tail::default(), shown));
        let stderr = stderr.map(|fd| Arc::new(Stderr { fd: Arc::new(fd), kept }));
        Self {
            generation: sys::generation(),
            process: OnceLock::new(),
            template,
            no_worker: OnceLock::new(),
            exit: OnceLock::new(),
            alive: Mutex::new(true),
            sweep: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            stderr,
            stdout: OnceLock::new(),
            link: OnceLock::new(),
        }
    }

    /// The end of the gateway takes what is left in this, too.
    pub(crate) fn set_stdout(&self, output: Arc<PipeOutput>) {
        let _ = self.stdout.set(output);
    }

    /// Has the reactor look after the exit, and tell `link` of it.
    pub(crate) fn watch(
        self: &Arc<Self>,
        reactor: &Arc<Reactor>,
        link: Option<&Arc<Link>>,
    ) -> io::Result<()> {
        if let Some(link) = link {
            let _ = self.link.set(Arc::downgrade(link));
        }
        if let Some(stderr) = &self.stderr {
            sys::set_nonblocking(&stderr.fd)?;
            reactor.add(Arc::clone(&stderr.fd), Interest::Readable, |key| {
                Arc::new(StderrSource { stderr: Arc::clone(stderr), key })
            })?;
        }
        match self.process.get() {
            Some(process) => self.watch_exit(process, reactor),
            None => Ok(()),
        }
    }

    fn watch_exit(self: &Arc<Self>, process: &Process, reactor: &Arc<Reactor>) -> io::Result<()> {
        let source = |key| -> Arc<dyn Source> { Arc::new(ExitSource { supervisor: Arc::clone(self), key }) };
        reactor.add(process.exited(), Interest::Readable, source).map(drop)
    }

    /// The template has forked it. What was to be killed before is killed now.
    pub(crate) fn came(self: &Arc<Self>, process: Process, reactor: &Arc<Reactor>) {
        let alive = self.alive.lock();
        let process = self.process.get_or_init(|| process);
        if self.was_killed() {
            process.kill_group();
        }
        drop(alive);
        if let Err(error) = self.watch_exit(process, reactor) {
            tracing::error!(%error, "the exit of a worker will not be seen");
        }
    }

    /// There will be no process.
    pub(crate) fn never_came(&self, why: NoWorker) {
        *self.alive.lock() = false;
        let _ = self.no_worker.set(why);
        self.exited(None);
    }

    /// Why there will be no process, if so.
    pub(crate) fn no_worker(&self) -> Option<&NoWorker> {
        self.no_worker.get()
    }

    /// The process id; `None` until a template has forked it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.get().map(Process::pid)
    }

    /// How the process exited, if it has and if that could be learned.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        self.exit.get().copied().flatten()
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exit.get().is_some()
    }

    pub(crate) fn was_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// What the worker started is to end with it, even if the worker ends in order.
    pub(crate) fn sweep_at_exit(&self) {
        self.sweep.store(true, Ordering::SeqCst);
    }

    /// Ends the worker and all it started: asks the process group, and a moment later does not ask.
    pub(crate) fn kill(self: &Arc<Self>, reactor: &Reactor) {
        self.sweep_at_exit();
        let alive = self.alive.lock();
        if !*alive {
            return;
        }
        self.killed.store(true, Ordering::SeqCst);
        if let Some(process) = self.process.get() {
            process.terminate_group();
        }
        drop(alive);
        let supervisor = Arc::clone(self);
        reactor.at(Instant::now() + TERM_TO_KILL, move |_| supervisor.kill_now());
    }

    /// Ends the worker and all it started at once.
    pub(crate) fn kill_now(&self) {
        if self.generation != sys::generation() {
            return;
        }
        let alive = self.alive.lock();
        if *alive {
            self.killed.store(true, Ordering::SeqCst);
            if let Some(process) = self.process.get() {
                process.kill_group();
            }
        }
    }

    /// The last lines of the standard error, after a look whether more has come.
    pub(crate) fn last_words(&self) -> Vec<String> {
        if let Some(stdout) = self.stdout.get() {
            stdout.take();
        }
        let Some(stderr) = &self.stderr else { return Vec::new() };
        stderr.forward();
        stderr.kept.lock().0.lines()
    }

    fn process_exited(&self) {
        let Some(process) = self.process.get() else { return };
        let status = match process.status() {
            Ok(Some(status)) => Some(status),
            Ok(None) => return,
            Err(_) => None,
        };
        let mut alive = self.alive.lock();
        // As long as the process is not reaped, its number, and so its group's, means nothing else; a template's worker is known by more.
        let is_ours_to_end = status.is_some() || self.template.is_some();
        let ended_badly = status.is_some_and(|status| !status.success());
        if is_ours_to_end && (ended_badly || self.sweep.load(Ordering::SeqCst)) {
            process.kill_group();
        }
        process.reap();
        *alive = false;
        drop(alive);
        if let Some(template) = &self.template {
            template.reap(process.pid());
        }
        self.exited(status);
    }

    fn exited(&self, status: Option<ExitStatus>) {
        let _ = self.exit.set(status);
        if let Some(link) = self.link.get().and_then(Weak::upgrade) {
            link.process_exited();
        }
    }
}

/// Why a template did not fork a worker.
#[derive(Clone, Debug)]
pub(crate) enum NoWorker {
    /// It is gone, or does not answer: an interpreter may do better.
    Lost,
    /// It could not be made as asked for, which no interpreter will change.
    Refused(String),
}

/// A status as Python's `subprocess` gives it: negative for a signal.
pub(crate) fn return_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

struct ExitSource {
    supervisor: Arc<Supervisor>,
    key: usize,
}

impl Source for ExitSource {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        self.supervisor.process_exited();
        if self.supervisor.has_exited() {
            reactor.remove(self.key);
        } else {
            reactor.rearm(self.key, Interest::Readable);
        }
    }
}

/// What becomes of a worker's standard error, besides that its end is kept.
pub(crate) enum Shown {
    Nowhere,
    /// It goes on to our own.
    Here,
    Lines(Lines),
}

/// The standard error of a worker.
struct Stderr {
    fd: Arc<OwnedFd>,
    kept: Mutex<(Tail, Shown)>,
}

impl Stderr {
    /// Passes on what is there. Returns whether more may come.
    fn forward(&self) -> bool {
        let mut chunk = [0; 4096];
        // Held throughout, so that two threads do not pass on parts in the wrong order.
        let mut kept = self.kept.lock();
        let (tail, shown) = &mut *kept;
        loop {
            match sys::read(self.fd.as_fd(), &mut chunk) {
                Ok(Transfer::Bytes(count)) => {
                    let bytes = &chunk[..count];
                    tail.push(bytes);
                    match shown {
                        Shown::Nowhere => {}
                        // Nobody can be told that standard error does not work.
                        Shown::Here => drop(io::Write::write_all(&mut io::stderr(), bytes)),
                        Shown::Lines(lines) => lines.push(bytes),
                    }
                }
                Ok(Transfer::WouldBlock) => return true,
                Ok(Transfer::Ended) | Err(_) => {
                    if let Shown::Lines(lines) = shown {
                        lines.end();
                    }
                    return false;
                }
            }
        }
    }
}

struct StderrSource {
    stderr: Arc<Stderr>,
    key: usize,
}

impl Source for StderrSource {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        if self.stderr.forward() {
            reactor.rearm(self.key, Interest::Readable);
        } else {
            reactor.remove(self.key);
        }
    }
}

/// The end of a text.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(STDERR_BYTES);
        self.0.drain(..excess);
    }

    fn lines(&self) -> Vec<String> {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(STDERR_LINES)..].iter().map(|&line| line.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines_only() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!((lines.len(), &*lines[STDERR_LINES - 1]), (STDERR_LINES, "line 9999"));
        assert!(tail.0.len() <= STDERR_BYTES);
    }
}
