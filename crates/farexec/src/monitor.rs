//! What a running program can be asked about itself: its groups, their gateways, and how much goes over each.
//!
//! `FAREXEC_MONITOR=1` in the environment has the first group of a program open a socket, at which whoever is the same user gets a
//! [snapshot](Program::snapshot) for each connection. Nothing is counted otherwise. `farexec top` is the reader that comes with it;
//! docs/OBSERVING.md has the form of what is told. The socket is that of `monitor/socket.rs`; the numbers are kept here.

mod socket;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Instant;

use farexec_proto::frame::{FrameReader, Kind};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::gateway::Gateway;
use crate::group::Members;
use crate::limits::MONITOR_PATIENCE;
pub use socket::{MonitorError, Program, programs};

/// The variable that asks for it. Workers do not get it: a worker is not what was to be watched.
pub(crate) const VARIABLE: &str = "FAREXEC_MONITOR";

static IS_ON: AtomicBool = AtomicBool::new(false);
static STATE: LazyLock<Mutex<State>> =
    LazyLock::new(|| Mutex::new(State { began: Instant::now(), groups: Vec::new(), made: 0 }));

struct State {
    began: Instant,
    groups: Vec<(u64, Weak<Mutex<Members>>)>,
    made: u64,
}

/// What went over one connection, counted only while somebody may ask.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    items_sent: AtomicU64,
    items_received: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

/// Whether somebody may ask.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// A group has begun to start workers: it is among those that are told of, and the first opens the socket, if one is asked for.
pub(crate) fn join(members: &Arc<Mutex<Members>>) {
    if !socket::is_open() {
        return;
    }
    IS_ON.store(true, Ordering::Relaxed);
    // In the child of a fork it may be held for ever, by a thread that the child does not have.
    let Some(mut state) = STATE.try_lock_for(MONITOR_PATIENCE) else { return };
    state.groups.retain(|(_, group)| group.strong_count() > 0);
    if !state.groups.iter().any(|(_, group)| std::ptr::eq(group.as_ptr(), Arc::as_ptr(members))) {
        let number = state.made;
        state.made += 1;
        state.groups.push((number, Arc::downgrade(members)));
    }
}

impl Traffic {
    /// Frames go to the far end.
    #[inline]
    pub(crate) fn sent(&self, frames: &[u8]) {
        if is_on() {
            self.count_frames(frames);
        }
    }

    #[cold]
    fn count_frames(&self, mut frames: &[u8]) {
        self.bytes_sent.fetch_add(frames.len() as u64, Ordering::Relaxed);
        let mut reader = FrameReader::default();
        while let Ok(Some(frame)) = reader.next(&mut frames) {
            if frame.kind == Kind::Item {
                self.items_sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// One item goes to the far end, in parts.
    pub(crate) fn sent_in_place(&self, parts: &[&[u8]]) {
        if is_on() {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            self.items_sent.fetch_add(1, Ordering::Relaxed);
            self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Bytes came from the far end.
    #[inline]
    pub(crate) fn received(&self, bytes: usize) {
        if is_on() {
            self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// An item was among them.
    #[inline]
    pub(crate) fn received_item(&self) {
        if is_on() {
            self.items_received.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All that is known, in one line of JSON.
fn snapshot() -> String {
    let state = STATE.lock();
    // Nothing is asked of a gateway with a group locked: who ends it may hold what is asked for.
    let groups: Vec<Json> = state
        .groups
        .iter()
        .filter_map(|(number, group)| Some((number, group.upgrade()?)))
        .map(|(number, group)| {
            let members = group.lock();
            let gateways = members.gateways.clone();
            let starting: Vec<String> = members.reserved.clone();
            let (restarts, last_error) = (members.restarts, members.last_error.clone());
            drop(members);
            let rows = gateways.iter().map(running).chain(starting.iter().map(|id| starting_row(id)));
            json!({
                "group": number,
                "restarts": restarts,
                "last_error": last_error,
                "gateways": rows.collect::<Vec<_>>(),
            })
        })
        .collect();
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let all = json!({
        "pid": std::process::id(),
        "command": words.join(" "),
        "seconds": state.began.elapsed().as_secs_f64(),
        "groups": groups,
    });
    all.to_string()
}

fn starting_row(id: &str) -> Json {
    json!({"id": id, "state": "starting"})
}

fn running(gateway: &Gateway) -> Json {
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let link = gateway.link();
    let work = link.work().map(|work| work.told()).unwrap_or_default();
    let traffic = link.traffic();
    let end = gateway.end_reason();
    json!({
        "id": gateway.id(),
        "spec": gateway.spec().to_string(),
        "state": if end.is_some() { "ended" } else { "running" },
        "reason": end.map(ToString::to_string),
        "pid": gateway.pid(),
        "channels": gateway.channel_count(),
        "executions": work.executions,
        "tasks": work.tasks,
        "done": work.done,
        "failed": work.failed,
        "start_seconds": work.start.as_secs_f64(),
        "wait_seconds": work.wait.as_secs_f64(),
        "work_seconds": work.work.as_secs_f64(),
        "queued_bytes": link.queued(),
        "items_sent": count(&traffic.items_sent),
        "items_received": count(&traffic.items_received),
        "bytes_sent": count(&traffic.bytes_sent),
        "bytes_received": count(&traffic.bytes_received),
    })
}
