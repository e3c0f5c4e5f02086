//! A Rust program as a worker of its own kind: it takes the place of the interpreter, and has functions where that has Python.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use farexec_proto::control::{Hello, Start};
use farexec_proto::encoding::StringCoercion;
use farexec_proto::frame::{HEADER_LENGTH, Kind};
use farexec_proto::handshake::PROTOCOL_VERSION;
use farexec_proto::serde::from_payload;
use farexec_proto::{ChannelId, Encoding};

use super::{Execution, Registry, Worker, WorkerSettings};
use crate::spec::ExecModel;
use crate::sys;
use crate::wait::Wait;

/// The longest START.
const START_BYTES: u32 = 16 << 20;

/// Why a program could not serve as a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nobody started it as a worker.
    #[error(
        "this program is a worker: a coordinator starts it, by a spec like `command=path/to/this/program`"
    )]
    Terminal,
    /// The other end is no coordinator.
    #[error("what came on standard input is no coordinator's: {0}")]
    Protocol(String),
    /// The coordinator asked for something that could not be done; it was told.
    #[error("{0}")]
    Refused(String),
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Serves the coordinator that started this program, until that ends it; then the program should end.
///
/// A coordinator starts it by a spec like `command=path/to/program`, on this machine or behind any other command: the interpreter that the
/// spec names is given to it as further arguments, which it ignores. Standard input and output are the connection; what
/// the program prints goes to standard error from now on. Call it first in `main`, before there are other threads: it changes the directory and
/// the environment as the spec says.
///
/// The functions of the registry are called by [`Gateway::call`](crate::Gateway::call) and [`Group::map`](crate::Group::map), from Rust and from
/// Python; those with a channel by `remote_exec` with their name as the source text. At the same time as many run as are asked for, each in a thread.
///
/// ```no_run
/// use farexec::worker::{Registry, serve};
/// use farexec::{Channel, SendError};
///
/// #[derive(serde::Deserialize)]
/// struct Range {
///     below: u64,
/// }
///
/// fn main() -> Result<(), farexec::worker::ServeError> {
///     let registry = Registry::new()
///         .function("numbers:parse", |(text,): (String,)| text.parse::<i64>())
///         .channel_function("count", |channel: Channel, range: Range| {
///             (0..range.below).try_for_each(|number| channel.send(&number))
///         });
///     serve(registry)
/// }
/// ```
///
/// # Errors
/// [`ServeError`]
pub fn serve(registry: Registry) -> Result<(), ServeError> {
    if io::stdin().is_terminal() {
        return Err(ServeError::Terminal);
    }
    let (input, output) = sys::take_standard_streams()?;
    let mut input = File::from(input);
    let Some(start) = read_start(&mut input)? else { return Ok(()) };
    let problem = apply(&start).err();
    let program = Arc::new(registry);
    let worker = connect(&start, input.into(), output, &program)?;
    let hello = Hello {
        protocol: PROTOCOL_VERSION.min(start.protocol),
        worker: "native".into(),
        implementation: "rust".into(),
        version: [
            env!("CARGO_PKG_VERSION_MAJOR"),
            env!("CARGO_PKG_VERSION_MINOR"),
            env!("CARGO_PKG_VERSION_PATCH"),
        ]
        .map(|part| part.parse().unwrap_or_default())
        .to_vec(),
        executable: std::env::current_exe()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        platform: std::env::consts::OS.into(),
        cwd: std::env::current_dir().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        pid: sys::process_id(),
        reads_message: true,
        knows_credit: true,
        error: problem.clone(),
        ..Hello::default()
    };
    worker.say_hello(&hello, true).map_err(|error| ServeError::Protocol(error.to_string()))?;
    let forever = Wait::forever();
    match problem {
        None => {
            while let Ok(Some(execution)) = worker.next(&forever) {
                execute(&worker, &program, &execution, true);
            }
        }
        Some(problem) => {
            let _ = worker.flush(&forever);
            return Err(ServeError::Refused(problem));
        }
    }
    let _ = worker.wait_idle(&forever);
    let _ = worker.flush(&forever);
    Ok(())
}

fn connect(start: &Start, input: OwnedFd, output: OwnedFd, program: &Arc<Registry>) -> io::Result<Worker> {
    let later: Arc<std::sync::OnceLock<Worker>> = Arc::default();
    let (worker, program) = (Arc::clone(&later), Arc::clone(program));
    let run_beside = Box::new(move |execution: Execution| {
        // It is set before anything is read.
        let Some(worker) = worker.get().cloned() else { return Err(io::ErrorKind::NotConnected.into()) };
        let program = Arc::clone(&program);
        let run = move || execute(&worker, &program, &execution, false);
        std::thread::Builder::new().name("farexec-execution".into()).spawn(run).map(drop)
    });
    let execmodel = start.execmodel.parse().unwrap_or(ExecModel::Thread);
    let settings = WorkerSettings {
        id: format!("{}-worker", start.id),
        execmodel,
        group: start.group && sys::leads_group(),
        run_beside,
    };
    let made = Worker::new(input, output, settings)?;
    let _ = later.set(made.clone());
    Ok(made)
}

fn execute(worker: &Worker, program: &Registry, execution: &Execution, in_main: bool) {
    let error = program.execute(&execution.channel, &execution.request).err();
    worker.has_executed(in_main);
    worker.close(&execution.channel, error.as_ref());
}

/// Skips what would make a worker of an interpreter, and reads what this one is to be. `None`: nobody wants a worker after all.
fn read_start(input: &mut File) -> Result<Option<Start>, ServeError> {
    let mut first = [0];
    loop {
        if input.read(&mut first)? == 0 {
            return Ok(None);
        }
        if first[0] == Kind::Start as u8 {
            break;
        }
        // Eight digits, and that many bytes.
        let mut rest = [0; 7];
        input.read_exact(&mut rest)?;
        let digits = String::from_utf8_lossy(&[&first[..], &rest].concat()).into_owned();
        let length: u64 =
            digits.parse().map_err(|_| ServeError::Protocol(format!("{digits:?} is no length")))?;
        io::copy(&mut input.take(length), &mut io::sink())?;
    }
    let mut header = [0; HEADER_LENGTH - 1];
    input.read_exact(&mut header)?;
    let [_, channel @ .., a, b, c, d] = header;
    let length = u32::from_le_bytes([a, b, c, d]);
    if channel != ChannelId::GATEWAY.number().to_le_bytes() || length > START_BYTES {
        return Err(ServeError::Protocol("it begins with no START".into()));
    }
    let mut payload = Vec::new();
    input.take(length.into()).read_to_end(&mut payload)?;
    from_payload(Encoding::Dump, &payload, StringCoercion::DEFAULT)
        .map(Some)
        .map_err(|error| ServeError::Protocol(format!("its START cannot be read: {error}")))
}

/// Does what START asks for, as far as it makes sense without an interpreter; what does not is refused.
fn apply(start: &Start) -> Result<(), String> {
    if !matches!(start.execmodel.as_str(), "" | "thread" | "main_thread_only") {
        return Err(format!("a worker that is a Rust program has no execmodel={}", start.execmodel));
    }
    if !start.preload.is_empty() {
        return Err(format!("a worker that is a Rust program cannot preload {}", start.preload.join(",")));
    }
    if start.threads.is_some() {
        return Err("a worker that is a Rust program has threads".into());
    }
    sys::set_environment(&start.env);
    if let Some(directory) = &start.chdir {
        let change = || {
            std::fs::create_dir_all(directory)?;
            std::env::set_current_dir(directory)
        };
        change().map_err(|error| format!("chdir={directory}: {error}"))?;
    }
    if let Some(niceness) = start.nice {
        sys::add_niceness(niceness).map_err(|error| format!("nice={niceness}: {error}"))?;
    }
    if start.stdout_null {
        sys::silence_stdout().map_err(|error| format!("stdout=null: {error}"))?;
    }
    Ok(())
}
