//! Every timer and limit of the driver: its name, its unit, its reason. Those of the protocol are in [`farexec_proto::limits`].

use std::time::Duration;

/// How long the reactor keeps off a gateway after it found a thread reading it: long against one round trip, so that it is
/// not woken by each; short against what a person, or a callback that nobody's wait feeds, would notice.
pub(crate) const STANDBY: Duration = Duration::from_millis(4);

/// How often a wait that can be interrupted looks whether it is.
pub(crate) const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// How often a wait that only signals interrupt looks whether one came just before it began; others get it out of the wait.
pub(crate) const SIGNAL_CHECK: Duration = Duration::from_secs(1);

/// How long a worker may take from its start to its answer.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// For how long a host may be out of reach, if its spec does not say: longer than a network takes to find another way, shorter than people wait.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(60);

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

/// How long ending a group waits for what was just starting, and is being ended, too.
pub(crate) const LAUNCH_END: Duration = Duration::from_secs(1);

/// Bytes that a coordinator may have queued for a worker before a sender waits for it. A worker queues nothing that its code sends.
pub(crate) const SEND_HIGH_WATER: usize = 1 << 20;

/// Bytes of answers (to PINGs, say) that are queued for a far end which takes nothing, before it is cut off.
pub(crate) const UNREAD_ANSWERS: usize = 1 << 20;

/// Bytes of an item from which on it is written from where it is: a copy costs more than what it takes to leave it there.
pub(crate) const SENT_IN_PLACE: usize = 64 << 10;

/// Bytes read at once into the buffer that all gateways of a thread share.
pub(crate) const READ_CHUNK: usize = 64 << 10;

/// Bytes of all buffers of large payloads that are kept for the next ones.
pub(crate) const KEPT_BUFFERS: usize = 64 << 20;

/// Reads in a row after which a thread that waits looks how fast items come.
pub(crate) const PACED_READS: u32 = 4;

/// Bytes in a millisecond from which on a thread that waits for items lets some come together before it waits for the next: each
/// time that it is woken costs the sender as much as several items.
pub(crate) const STREAMING_RATE: u128 = 1000;

/// A read of so many bytes shows that they come together anyway.
pub(crate) const READ_TOGETHER: usize = 4096;

/// How long it lets them come. The system makes about 60 microseconds of it.
pub(crate) const BREATH: Duration = Duration::from_micros(5);

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

/// How long an execution waits for a busy main thread, if it may run nowhere else, before it is refused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a worker that was cut off lets its executions go on before it interrupts them. One that was asked to end is told how
/// long.
pub(crate) const GRACE_CUT_OFF: Duration = Duration::from_millis(500);

/// How long after that a worker exits, whatever its executions do: if it was asked to end, and if it was cut off.
pub(crate) const LAST_GRACE: Duration = Duration::from_secs(10);
pub(crate) const LAST_GRACE_CUT_OFF: Duration = Duration::from_secs(1);

/// The longest time that a worker may be told to let executions go on.
pub(crate) const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Items that a worker of a map has at least: one that it is at, and one for the time in which its answer is on its way.
pub(crate) const MAP_LEAST: usize = 2;

/// Items that it has at most.
pub(crate) const MAP_MOST: usize = 2048;

/// For how long it has items ahead, in between.
pub(crate) const MAP_AHEAD: Duration = Duration::from_millis(20);

/// Items of a map that are under way at most, those included whose results wait for earlier ones.
pub(crate) const MAP_WINDOW: usize = 1 << 16;

/// How often a worker of a map that could not be replaced is tried again, and how long after each failure.
pub(crate) const MAP_RESTARTS: u32 = 3;
pub(crate) const MAP_RESTART_PAUSE: Duration = Duration::from_millis(200);

/// How long results that were written to a journal may be left to the system before it is made to keep them, even if the power fails.
pub(crate) const JOURNAL_SYNC: Duration = Duration::from_secs(1);

/// How long who asks what a program is doing, and the program, wait for one another.
pub(crate) const MONITOR_PATIENCE: Duration = Duration::from_secs(2);

/// How often the progress of a map is told at most.
pub(crate) const MAP_PROGRESS: Duration = Duration::from_millis(100);

/// Functions that one lane of calls knows at most, which its worker keeps.
pub(crate) const LANE_FUNCTIONS: usize = 1024;

/// Sends without a read in between after which a coordinator offers its worker rings: a stream, and no round trips.
pub(crate) const STREAMED_SENDS: u32 = 256;
