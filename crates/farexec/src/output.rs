//! Where the lines go that workers print, if their spec says `forward`.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farexec_proto::Value;
use parking_lot::Mutex;

use crate::callback;
use crate::channel::ReceiveError;
use crate::error::StartError;
use crate::gateway::Gateway;
use crate::limits::{OUTPUT_LINE, OUTPUT_SETTLES};
use crate::reactor::{Reactor, Source};
use crate::receive_queue::Item;
use crate::source::Source as Code;
use crate::spec::{Output, Spec, Transport};
use crate::sys::{self, Interest, Transfer};
use crate::wait::{Wait, WaitError};

const FORWARDER: &str = include_str!("output.py");

/// One line that a worker printed.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let (sender, lines) = std::sync::mpsc::channel();
/// group.set_output(move |line| drop(sender.send((line.gateway.clone(), line.stream.name(), line.text.clone()))));
/// let channel = group.make_gateway("popen//id=a//stdout=forward")?.remote_exec("print('hello')")?;
/// assert_eq!(lines.recv()?, ("a".into(), "stdout", "hello".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLine {
    /// The id of its gateway.
    pub gateway: String,
    /// What it was printed to.
    pub stream: OutputStream,
    /// The line without its end. What is no UTF-8 is replaced.
    pub text: String,
}

/// What a line was printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// `stdout` or `stderr`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

type Function = dyn Fn(OutputLine) + Send + Sync;

/// What a group does with the lines of its workers.
pub(crate) struct Outputs {
    function: Mutex<Arc<Function>>,
    /// Whether lines may come. That one has come is known too late: it may still wait for the thread that would say so.
    used: AtomicBool,
}

impl Default for Outputs {
    /// Prints them where this program prints, each behind the id of its gateway.
    fn default() -> Self {
        let print = |OutputLine { gateway, stream, text }: OutputLine| {
            let line = format!("[{gateway}] {text}\n");
            // Nobody can be told that printing does not work.
            let _ = match stream {
                OutputStream::Stdout => io::stdout().write_all(line.as_bytes()),
                OutputStream::Stderr => io::stderr().write_all(line.as_bytes()),
            };
        };
        Self { function: Mutex::new(Arc::new(print)), used: AtomicBool::new(false) }
    }
}

impl Outputs {
    pub(crate) fn set(&self, function: impl Fn(OutputLine) + Send + Sync + 'static) {
        *self.function.lock() = Arc::new(function);
    }

    /// Waits until the function has had the lines that have come, but no longer than it may hold up the end of a group.
    pub(crate) fn settle(&self) {
        if self.used.load(Ordering::Relaxed) {
            callback::settle(OUTPUT_SETTLES);
        }
    }

    fn take(self: &Arc<Self>, gateway: &Arc<str>, stream: OutputStream, line: &[u8]) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let line = OutputLine { gateway: gateway.to_string(), stream, text };
        let outputs = Arc::clone(self);
        // Not here: this may be the reactor's thread, and printing may take its time.
        callback::later(move || {
            let function = Arc::clone(&outputs.function.lock());
            function(line);
        });
    }
}

/// One output of one worker, as bytes that become lines.
pub(crate) struct Lines {
    outputs: Arc<Outputs>,
    gateway: Arc<str>,
    stream: OutputStream,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(outputs: &Arc<Outputs>, gateway: &str, stream: OutputStream) -> Self {
        outputs.used.store(true, Ordering::Relaxed);
        Self { outputs: Arc::clone(outputs), gateway: gateway.into(), stream, rest: Vec::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|&byte| byte == b'\n') {
            self.outputs.take(&self.gateway, self.stream, &self.rest[begin..begin + length]);
            begin += length + 1;
        }
        self.rest.drain(..begin);
        if self.rest.len() >= OUTPUT_LINE {
            self.end();
        }
    }

    /// Nothing comes any more: what is left is a line too.
    pub(crate) fn end(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.outputs.take(&self.gateway, self.stream, &rest);
        }
    }
}

/// The read end of a pipe that a worker prints to.
pub(crate) struct PipeOutput {
    fd: Arc<OwnedFd>,
    lines: Mutex<Lines>,
}

impl PipeOutput {
    pub(crate) fn watch(fd: OwnedFd, lines: Lines, reactor: &Arc<Reactor>) -> io::Result<Arc<Self>> {
        sys::set_nonblocking(&fd)?;
        let output = Arc::new(Self { fd: Arc::new(fd), lines: Mutex::new(lines) });
        reactor.add(Arc::clone(&output.fd), Interest::Readable, |key| {
            Arc::new(PipeSource { output: Arc::clone(&output), key })
        })?;
        Ok(output)
    }

    /// Takes what is there. Returns whether more may come.
    pub(crate) fn take(&self) -> bool {
        let mut chunk = [0; 4096];
        let mut lines = self.lines.lock();
        loop {
            match sys::read(self.fd.as_fd(), &mut chunk) {
                Ok(Transfer::Bytes(count)) => lines.push(&chunk[..count]),
                Ok(Transfer::WouldBlock) => return true,
                Ok(Transfer::Ended) | Err(_) => {
                    lines.end();
                    return false;
                }
            }
        }
    }
}

struct PipeSource {
    output: Arc<PipeOutput>,
    key: usize,
}

impl Source for PipeSource {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        if self.output.take() {
            reactor.rearm(self.key, Interest::Readable);
        } else {
            reactor.remove(self.key);
        }
    }
}

/// Has a worker send what no pipe of ours brings, if its spec forwards it.
pub(crate) fn forward(gateway: &Gateway, outputs: &Arc<Outputs>, wait: &Wait<'_>) -> Result<(), StartError> {
    let sent = sent(gateway.spec());
    if sent.is_empty() {
        return Ok(());
    }
    let refused = |reason: String| StartError::Refused { command: gateway.command().into(), reason };
    let descriptors: Vec<Value> = sent.iter().map(|&(descriptor, _)| Value::Int(descriptor)).collect();
    let code = Code::text(FORWARDER).at("<farexec output>", 1).call("forward").part("output").beside();
    let code = code.with("descriptors", Value::List(descriptors));
    let execution = gateway.remote_exec(code).map_err(|error| refused(error.to_string()))?;
    let written = gateway.new_channel().map_err(|error| refused(error.to_string()))?;
    // Bytes stay bytes, though Python 2 calls them strings.
    written.reconfigure(false, false).map_err(|error| refused(error.to_string()))?;
    let mut lines: Vec<(i64, Lines)> = sent
        .iter()
        .map(|&(descriptor, stream)| (descriptor, Lines::new(outputs, gateway.id(), stream)))
        .collect();
    let taken = written.set_callback(move |item| {
        match item {
            Item::Data(payload) => {
                if let Ok(Value::List(parts)) = payload.value()
                    && let [Value::Int(descriptor), Value::Bytes(bytes)] = &parts[..]
                    && let Some((_, lines)) = lines.iter_mut().find(|(known, _)| known == descriptor)
                {
                    lines.push(bytes);
                }
            }
            Item::End(_) => lines.iter_mut().for_each(|(_, lines)| lines.end()),
        }
        Ok(())
    });
    taken.map_err(|error| refused(error.to_string()))?;
    let sent = execution.start_sending(&Value::Channel(written.id()));
    sent.map_err(|error| refused(error.to_string()))?;
    execution.wait_close(wait).map_err(|error| match error {
        ReceiveError::Wait(WaitError::Interrupted) => StartError::Interrupted,
        error => refused(error.to_string()),
    })
}

/// Which outputs a worker has to send itself, by their descriptors.
fn sent(spec: &Spec) -> Vec<(i64, OutputStream)> {
    let is_behind = spec.via.is_some() || matches!(spec.transport, Transport::Socket(_));
    let stdout = spec.stdout == Output::Forward && (is_behind || spec.transport != Transport::Popen);
    let stderr = spec.stderr == Output::Forward && is_behind;
    let stdout = stdout.then_some((1, OutputStream::Stdout));
    let stderr = stderr.then_some((2, OutputStream::Stderr));
    stdout.into_iter().chain(stderr).collect()
}
