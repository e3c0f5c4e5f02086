//! The dictionaries that frames other than items carry: what to set up, what to execute, what went wrong.
//!
//! Section 2 of `docs/PROTOCOL.md` lists the keys; unknown ones are ignored, so either side may add some.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a worker is to set itself up: the payload of START.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    /// The version the coordinator speaks.
    pub protocol: u32,
    /// The gateway's id.
    pub id: String,
    /// `thread`, `main_thread_only`, `gevent` or `eventlet`.
    pub execmodel: String,
    /// What the worker is extended by for this model: source text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// Descriptor, device and inode of what becomes the standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<[i64; 3]>,
    /// Whether the standard output goes nowhere.
    #[serde(skip_serializing_if = "is_default")]
    pub stdout_null: bool,
    /// A directory to change to, made if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chdir: Option<String>,
    /// Environment variables to set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Niceness to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// Whether importing leaves no `.pyc` files.
    #[serde(skip_serializing_if = "is_default")]
    pub dont_write_bytecode: bool,
    /// Whether the worker may be native, where it can.
    pub native: bool,
    /// Whether a worker that has no extension module, and could use one, may ask for it.
    pub push: bool,
    /// Modules to import before anything is executed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preload: Vec<String>,
    /// `none`: the worker starts no thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<String>,
    /// Whether the worker leads a process group of its own and takes it along when it is cut off.
    pub group: bool,
}

/// Whether a key can be left out, since that is what it means to be missing.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Who answers: the payload of HELLO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The version the worker speaks.
    pub protocol: u32,
    /// `pure` or `native`.
    pub worker: String,
    /// `cpython`, `pypy`, or what the worker is written in.
    pub implementation: String,
    /// The interpreter's version: major, minor, micro.
    pub version: Vec<u32>,
    /// `sys.executable`.
    pub executable: String,
    /// `sys.platform`.
    pub platform: String,
    /// The working directory at the start.
    pub cwd: String,
    /// The process id.
    pub pid: u32,
    /// Whether the worker understands the message encoding.
    pub reads_message: bool,
    /// Whether the worker knows CREDIT.
    pub knows_credit: bool,
    /// `os.uname().machine`, of a worker that asks for the extension module.
    pub machine: String,
    /// Whether the worker asks for the extension module. Another HELLO follows then, once it was sent.
    pub asks_extension: bool,
    /// Why what START asked for could not be done.
    pub error: Option<String>,
    /// The worker's code, if stage 1 asked for it.
    pub compiled: Option<Compiled>,
}

/// The code of the zero-install worker, for interpreters of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compiled {
    /// `MAGIC_NUMBER` of the interpreter's import system.
    pub magic: Vec<u8>,
    /// `sys.implementation.name`
    pub implementation: String,
    /// What its `marshal` made of the code object.
    pub code: Vec<u8>,
}

/// What an execution or a closed channel went wrong with: the payload of CLOSE_ERROR.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorReport {
    /// What a person reads; for an exception the formatted traceback.
    pub text: String,
    /// The qualified name of the exception's type, without `builtins.`.
    pub r#type: String,
    /// The exception's own message.
    pub message: String,
    /// Where it came through, outermost first.
    pub frames: Vec<Frame>,
    /// What was added to the exception (`__notes__`).
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub notes: Box<[String]>,
    /// The exception that it was raised from, or while handling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<ErrorReport>>,
}

/// One place that an exception came through. On the wire it is a tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, u32, String, String)", into = "(String, u32, String, String)")]
pub struct Frame {
    /// The file, as the interpreter there names it.
    pub file: String,
    /// The number of the line.
    pub line: u32,
    /// The function, or `<module>`.
    pub function: String,
    /// The text of the line; empty if it is not known.
    pub text: String,
}

impl From<(String, u32, String, String)> for Frame {
    fn from((file, line, function, text): (String, u32, String, String)) -> Self {
        Self { file, line, function, text }
    }
}

impl From<Frame> for (String, u32, String, String) {
    fn from(Frame { file, line, function, text }: Frame) -> Self {
        (file, line, function, text)
    }
}

/// How a worker is doing: the payload of STATUS_REPLY.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Channels open.
    pub channels: u64,
    /// Executions running.
    pub executing: u64,
    /// Executions accepted and not begun.
    pub queued: u64,
    /// `thread` or `main_thread_only`.
    pub execmodel: String,
    /// The working directory.
    pub cwd: String,
}

/// Where a worker finds memory for rings: the payload of RING.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ring {
    /// The layout of the memory: [`Ring::LAYOUT`], or the peer leaves it alone.
    pub layout: u32,
    /// The coordinator's process id.
    pub pid: u32,
    /// The descriptor that the coordinator has of it.
    pub descriptor: i32,
    /// The device and the inode that it stands for.
    pub file: (u64, u64),
}

impl Ring {
    /// The layout that this version knows.
    pub const LAYOUT: u32 = 1;
}

/// The payload of TERMINATE.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terminate {
    /// Seconds that running executions have to end before they are interrupted.
    pub grace: f64,
}

impl Default for Terminate {
    fn default() -> Self {
        Self { grace: 5.0 }
    }
}
