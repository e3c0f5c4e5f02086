//! Every timer and limit of the driver: its name, its unit, its reason. Those of the protocol are in [`farexec_proto::limits`].

use std::time::Duration;

/// How long the reactor keeps off a gateway after it found a thread reading it: long against one round trip, so that it is
/// not woken by each; short against what a person, or a callback that nobody's wait feeds, would notice.
pub(crate) const STANDBY: Duration = Duration::from_millis(4);

/// How often a wait that can be interrupted looks whether it is.
pub(crate) const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// How long a worker may take from its start to its answer.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a template that is ready may leave all questions unanswered before it is killed, and interpreters are started in its stead.
pub(crate) const TEMPLATE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a template stays after its last worker, so that groups one after the other share it.
pub(crate) const TEMPLATE_LINGERS: Duration = Duration::from_secs(5);

/// How long after the end of its output a worker's process may take to exit before the gateway ends without its status.
pub(crate) const EXIT_AFTER_EOF: Duration = Duration::from_millis(500);

/// How long a process group has between being asked to end (`SIGTERM`) and being ended (`SIGKILL`).
pub(crate) const TERM_TO_KILL: Duration = Duration::from_millis(300);

/// How long a killed process may take to be gone before `terminate` returns without it: one that hangs in the kernel.
pub(crate) const GONE_AFTER_KILL: Duration = Duration::from_secs(5);

/// What a group that is dropped, or left at the end of a program, gives its workers to end.
pub(crate) const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes that may be queued for a worker before a sender waits for it.
pub(crate) const SEND_HIGH_WATER: usize = 1 << 20;

/// Bytes read at once into the buffer that all gateways of a thread share.
pub(crate) const READ_CHUNK: usize = 64 << 10;

/// How many chunks the reactor reads from one gateway before it looks at the others.
pub(crate) const READS_PER_TURN: usize = 16;

/// Lines of a worker's standard error that are kept to explain its end.
pub(crate) const STDERR_LINES: usize = 20;

/// Bytes of a worker's standard error that are kept to explain its end.
pub(crate) const STDERR_BYTES: usize = 8 << 10;

/// Bytes of a worker's output after which a line that has not ended is taken as one.
pub(crate) const OUTPUT_LINE: usize = 1 << 20;

/// How long the function that takes workers' lines may hold up the end of their group.
pub(crate) const OUTPUT_SETTLES: Duration = Duration::from_secs(2);

/// Bytes of a payload up to which a trace shows what is in it.
pub(crate) const TRACED_PAYLOAD: usize = 64 << 10;

/// Characters that a trace shows of a payload.
pub(crate) const TRACED_TEXT: usize = 200;
