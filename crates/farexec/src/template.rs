//! Templates: warm interpreters that fork workers of this machine. `template.py` is their other end.
//!
//! There is one for each kind of worker (the command, the preloads, and whatever a process cannot change about itself), in each
//! process that makes gateways. It is asked over a socket, with the worker's ends of its pipes in the question, and answers when the worker
//! has been forked; nobody waits for that answer but the worker's [`Supervisor`]. A message is a letter, the length of its
//! body as four bytes, and the body:
//!
//! | letter | from | body | meaning |
//! | --- | --- | --- | --- |
//! | `I` | here | dict | what to preload, and the state at the start |
//! | `R` | there | | ready |
//! | `E` | there | text | it cannot be: a preload failed |
//! | `F` | here | state | fork a worker; five descriptors come with it |
//! | `P` | there | process id | the worker, in the order of the questions |
//! | `N` | there | text | there is no worker: the system refused the fork |
//! | `W` | here | process id | reap this worker, which has exited |
//!
//! A worker is the template's child, and stays a zombie until `W`. Its exit is seen by a descriptor of the system's, so that neither a template that
//! is killed nor one that is stopped keeps anything from ending.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use farexec_proto::encoding::dump;
use farexec_proto::serde::AsItem;
use parking_lot::Mutex;
use serde::Serialize;

use crate::interpreter::{self, Setting};
use crate::limits::{START_TIMEOUT, TEMPLATE_LINGERS, TEMPLATE_PATIENCE};
use crate::reactor::{Reactor, Source};
use crate::supervisor::{NoWorker, Shown, Supervisor};
use crate::sys::{self, Inherited, Interest, Process, Transfer};

pub(crate) struct Template {
    kind: Kind,
    started: Instant,
    connection: Arc<OwnedFd>,
    reading_key: OnceLock<usize>,
    writing_key: OnceLock<usize>,
    supervisor: Arc<Supervisor>,
    /// Becomes readable when the template has exited.
    exited: Arc<OwnedFd>,
    reactor: Arc<Reactor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Workers that were asked for, and are not there yet.
    asked: VecDeque<Arc<Supervisor>>,
    outgoing: VecDeque<Message>,
    incoming: Vec<u8>,
    /// Workers that were asked for and have not been let go of.
    workers: usize,
    ready: bool,
    gone: bool,
    /// When it answered last, or was asked while nothing was to be answered.
    sign_of_life: Option<Instant>,
}

struct Message {
    bytes: Vec<u8>,
    sent: usize,
    passed: Vec<OwnedFd>,
}

/// What all workers of a template have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    interpreter: interpreter::Identity,
    preload: Vec<String>,
    /// Variables that count when an interpreter starts.
    variables: Vec<(OsString, OsString)>,
    /// The working directory, where that counts then too.
    directory: Option<PathBuf>,
    /// See [`Inherited::identity`].
    identity: String,
}

/// Beginnings of names of variables that an interpreter, or the system's loader, looks at once, when it starts.
const LOOKED_AT_ONCE: [&str; 9] =
    ["PYTHON", "LD_", "LC_", "LANG", "LOCPATH", "GLIBC_TUNABLES", "MALLOC_", "HOME", "__PYVENV_LAUNCHER__"];

struct Registry {
    process: u32,
    templates: BTreeMap<Kind, Arc<Template>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { process: 0, templates: BTreeMap::new() });

/// What workers that start together have from this process, looked up by the first that needs it.
#[derive(Default)]
pub(crate) struct Present(OnceCell<Inherited>);

impl Present {
    fn inherited(&self) -> io::Result<&Inherited> {
        match self.0.get() {
            Some(inherited) => Ok(inherited),
            None => sys::inherited().map(|inherited| self.0.get_or_init(|| inherited)),
        }
    }
}

/// A template that forks workers as asked for, started if need be, and what it is to be told of the present state.
pub(crate) fn find(
    interpreter: &interpreter::Command,
    setting: &Setting,
    preload: &[String],
    nice: i32,
    present: &Present,
) -> io::Result<(Arc<Template>, Vec<u8>)> {
    let inherited = present.inherited()?;
    let Some(identity) = interpreter.identity() else {
        return Err(io::Error::other("the interpreter is not known yet"));
    };
    let counts =
        |name: &OsStr| LOOKED_AT_ONCE.iter().any(|begin| sys::path_bytes(name).starts_with(begin.as_bytes()));
    let kind = Kind {
        interpreter: identity,
        preload: preload.to_vec(),
        variables: setting.environment.clone().into_iter().filter(|(name, _)| counts(name)).collect(),
        directory: (!preload.is_empty() || has_relative_paths(setting)).then(|| setting.current_directory()),
        identity: inherited.identity.clone(),
    };
    let state = described(inherited, 0, setting);
    let mut registry = REGISTRY.lock();
    if registry.process != sys::process_id() {
        registry.process = sys::process_id();
        // Those of the parent, in a child, are leaked: they are the parent's.
        std::mem::forget(std::mem::take(&mut registry.templates));
    }
    let template = match registry.templates.get(&kind) {
        Some(template) => Arc::clone(template),
        None => {
            let template = Template::start(kind.clone(), interpreter, setting, state.clone())?;
            registry.templates.insert(kind, Arc::clone(&template));
            template
        }
    };
    drop(registry);
    Ok((template, if nice == 0 { state } else { described(inherited, nice, setting) }))
}

/// Whether an interpreter makes paths absolute at its start that are not.
fn has_relative_paths(setting: &Setting) -> bool {
    let path = setting.environment.get(OsStr::new("PYTHONPATH"));
    path.is_some_and(|path| !path.is_empty() && std::env::split_paths(path).any(|path| path.is_relative()))
}

/// The state of this process, and what a spec adds to it, as `template.py` reads it.
fn described(inherited: &Inherited, nice: i32, setting: &Setting) -> Vec<u8> {
    let processors = u32::try_from(inherited.processors.len()).unwrap_or(0);
    let mut out = Vec::with_capacity(8 << 10);
    out.extend_from_slice(&inherited.umask.to_le_bytes());
    out.extend_from_slice(&inherited.ignored.to_le_bytes());
    out.extend_from_slice(&inherited.nice.saturating_add(nice).to_le_bytes());
    out.extend_from_slice(&processors.to_le_bytes());
    for (soft, hard) in inherited.limits {
        out.extend_from_slice(&soft.to_le_bytes());
        out.extend_from_slice(&hard.to_le_bytes());
    }
    out.extend_from_slice(&inherited.processors);
    for (name, value) in &setting.environment {
        out.extend_from_slice(sys::path_bytes(name));
        out.push(b'=');
        out.extend_from_slice(sys::path_bytes(value));
        out.push(0);
    }
    out
}

/// The body of `I`.
#[derive(Serialize)]
struct Introduction<'a> {
    preload: &'a [String],
    state: Bytes,
}

struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl Template {
    fn start(
        kind: Kind,
        interpreter: &interpreter::Command,
        setting: &Setting,
        state: Vec<u8>,
    ) -> io::Result<Arc<Self>> {
        let (ours, theirs) = sys::socket_pair()?;
        let (stderr, their_stderr) = sys::pipe()?;
        let mut command = interpreter.command(setting);
        let process = sys::Start { has_its_environment: true, ..sys::Start::default() };
        let process = sys::spawn(&mut command, [theirs, sys::null()?, their_stderr], process)?;
        drop(command);
        tracing::debug!(pid = process.pid(), preload = ?kind.preload, "template started");
        let exited = process.exited();
        let reactor = Reactor::current()?;
        let supervisor = Arc::new(Supervisor::new(process, Some(stderr), Shown::Here));
        supervisor.watch(&reactor, None)?;
        sys::set_nonblocking(&ours)?;
        let writing = Arc::new(ours.try_clone()?);
        let template = Arc::new(Self {
            kind,
            started: Instant::now(),
            connection: Arc::new(ours),
            reading_key: OnceLock::new(),
            writing_key: OnceLock::new(),
            supervisor,
            exited,
            reactor: Arc::clone(&reactor),
            state: Mutex::default(),
        });
        let register = |fd: &Arc<OwnedFd>, interest| {
            let template = Arc::downgrade(&template);
            reactor.add(Arc::clone(fd), interest, |_| Arc::new(Connection(template)))
        };
        let _ = template.writing_key.set(register(&writing, Interest::Nothing)?);
        let _ = template.reading_key.set(register(&template.connection, Interest::Readable)?);
        let introduction = Introduction { preload: &template.kind.preload, state: Bytes(state) };
        let mut body = Vec::new();
        dump::encode(&AsItem(&introduction), &mut body).map_err(io::Error::other)?;
        let mut bytes = interpreter.template_stage_1().to_vec();
        append(&mut bytes, b'I', &body);
        template.send(Message { bytes, sent: 0, passed: Vec::new() });
        Ok(template)
    }

    /// Asks for a worker with these descriptors: input and output of its protocol, standard output, standard error, working directory.
    pub(crate) fn fork(self: &Arc<Self>, state: &[u8], passed: [OwnedFd; 5], worker: &Arc<Supervisor>) {
        let mut bytes = Vec::with_capacity(state.len() + 5);
        append(&mut bytes, b'F', state);
        let mut known = self.state.lock();
        if known.gone {
            drop(known);
            return worker.never_came(NoWorker::Lost);
        }
        known.workers += 1;
        if known.asked.is_empty() {
            let now = Instant::now();
            known.sign_of_life = Some(now);
            let template = Arc::downgrade(self);
            self.reactor.at(now + TEMPLATE_PATIENCE, move |_| look_after(&template));
        }
        known.asked.push_back(Arc::clone(worker));
        // In the same order, or two who ask at once take each other's worker for their own.
        known.outgoing.push_back(Message { bytes, sent: 0, passed: passed.into() });
        self.flush(&mut known);
    }

    /// Has a worker reaped that has exited. Its number may mean another process from now on.
    pub(crate) fn reap(self: &Arc<Self>, pid: u32) {
        let mut bytes = Vec::with_capacity(9);
        append(&mut bytes, b'W', &pid.to_le_bytes());
        self.send(Message { bytes, sent: 0, passed: Vec::new() });
        self.let_go();
    }

    /// One worker less: the last one's template ends after a while.
    fn let_go(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.workers -= 1;
        if state.workers == 0 {
            let (now, template) = (Instant::now(), Arc::downgrade(self));
            state.sign_of_life = Some(now);
            self.reactor.at(now + TEMPLATE_LINGERS, move |_| {
                let Some(template) = template.upgrade() else { return };
                let mut state = template.state.lock();
                if state.workers == 0 && state.sign_of_life == Some(now) {
                    // Who has found it in the registry, and not asked yet, sees that, and starts an interpreter.
                    state.gone = true;
                    drop(state);
                    template.end();
                }
            });
        }
    }

    fn send(&self, message: Message) {
        let mut state = self.state.lock();
        state.outgoing.push_back(message);
        self.flush(&mut state);
    }

    fn flush(&self, state: &mut State) {
        while let Some(message) = state.outgoing.front_mut() {
            match sys::send_with(self.connection.as_fd(), &message.bytes[message.sent..], &message.passed) {
                Ok(Transfer::Bytes(count)) => {
                    message.sent += count;
                    message.passed.clear();
                    if message.sent == message.bytes.len() {
                        state.outgoing.pop_front();
                    }
                }
                Ok(Transfer::WouldBlock) => {
                    if let Some(key) = self.writing_key.get() {
                        self.reactor.rearm(*key, Interest::Writable);
                    }
                    return;
                }
                // Who reads sees the same.
                Ok(Transfer::Ended) | Err(_) => return state.outgoing.clear(),
            }
        }
    }

    fn read(self: &Arc<Self>) {
        let mut chunk = [0; 4096];
        loop {
            match sys::read(self.connection.as_fd(), &mut chunk) {
                Ok(Transfer::Bytes(count)) => {
                    let mut state = self.state.lock();
                    state.incoming.extend_from_slice(&chunk[..count]);
                    state.sign_of_life = Some(Instant::now());
                    drop(state);
                    while let Some((letter, body)) = self.next_message() {
                        self.take(letter, &body);
                    }
                }
                Ok(Transfer::WouldBlock) => break,
                Ok(Transfer::Ended) | Err(_) => return self.lost(&NoWorker::Lost),
            }
        }
        if let Some(key) = self.reading_key.get() {
            self.reactor.rearm(*key, Interest::Readable);
        }
    }

    fn next_message(&self) -> Option<(u8, Vec<u8>)> {
        let mut state = self.state.lock();
        let (header, rest) = state.incoming.split_at_checked(5)?;
        let letter = header[0];
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let body = rest.get(..length)?.to_vec();
        state.incoming.drain(..5 + length);
        Some((letter, body))
    }

    fn take(self: &Arc<Self>, letter: u8, body: &[u8]) {
        let text = || String::from_utf8_lossy(body).into_owned();
        match letter {
            b'R' => self.state.lock().ready = true,
            b'E' => self.lost(&NoWorker::Refused(text())),
            b'P' | b'N' => {
                let Some(worker) = self.state.lock().asked.pop_front() else { return };
                let pid = body.try_into().map(u32::from_le_bytes).unwrap_or(0);
                match Process::forked(pid, Arc::clone(&self.exited)) {
                    Ok(process) if letter == b'P' => worker.came(process, &self.reactor),
                    _ => {
                        tracing::warn!("a template could not fork: {}", text());
                        self.let_go();
                        worker.never_came(NoWorker::Lost);
                    }
                }
            }
            _ => {}
        }
    }

    /// The template ended, or is given up: nobody gets a worker from it any more.
    fn lost(self: &Arc<Self>, why: &NoWorker) {
        let mut state = self.state.lock();
        state.gone = true;
        let asked = std::mem::take(&mut state.asked);
        state.outgoing.clear();
        drop(state);
        self.end();
        for worker in asked {
            worker.never_came(why.clone());
        }
    }

    /// Lets go of the template: it sees the end of its connection, and exits. Workers go on.
    fn end(self: &Arc<Self>) {
        self.state.lock().gone = true;
        let mut registry = REGISTRY.lock();
        if registry.templates.get(&self.kind).is_some_and(|known| Arc::ptr_eq(known, self)) {
            registry.templates.remove(&self.kind);
        }
        drop(registry);
        for key in [&self.reading_key, &self.writing_key] {
            if let Some(key) = key.get() {
                self.reactor.remove(*key);
            }
        }
        sys::end_sending(&self.connection);
    }
}

/// Sees to it that nobody waits long for a template that does nothing, as one that was stopped.
fn look_after(template: &Weak<Template>) {
    let Some(template) = template.upgrade() else { return };
    let state = template.state.lock();
    let Some(sign) = state.sign_of_life.filter(|_| !state.asked.is_empty()) else { return };
    // Until it is ready it starts, and imports, which may take long.
    let deadline = if state.ready { sign + TEMPLATE_PATIENCE } else { template.started + START_TIMEOUT };
    drop(state);
    if Instant::now() < deadline {
        let again = Arc::downgrade(&template);
        template.reactor.at(deadline, move |_| look_after(&again));
        return;
    }
    tracing::warn!(pid = template.supervisor.pid(), "a template does not answer, and is killed");
    template.supervisor.kill_now();
    template.lost(&NoWorker::Lost);
}

fn append(out: &mut Vec<u8>, letter: u8, body: &[u8]) {
    out.push(letter);
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(body);
}

struct Connection(Weak<Template>);

impl Source for Connection {
    fn ready(self: Arc<Self>, _reactor: &Arc<Reactor>) {
        if let Some(template) = self.0.upgrade() {
            template.flush(&mut template.state.lock());
            template.read();
        }
    }
}
