//! One line per message, for debugging: what `FAREXEC_DEBUG` asks for.
//!
//! Every message of every gateway passes through here, so the coordinator's trace tells both sides' story. `FAREXEC_DEBUG=1`
//! writes it to `farexec-debug-PID.txt` in the temporary folder, `2` to standard error.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Instant;

use farexec_proto::encoding::StringCoercion;
use farexec_proto::frame::{Frame, FrameReader, Kind};
use farexec_proto::{ChannelId, Value};
use parking_lot::Mutex;

use crate::limits::{TRACED_PAYLOAD, TRACED_TEXT};

const VARIABLE: &str = "FAREXEC_DEBUG";

/// Where the lines go.
pub(crate) struct Trace {
    out: Mutex<Box<dyn Write + Send>>,
    began: Instant,
}

/// The trace, if one was asked for when the program first sent or received something.
#[inline]
pub(crate) fn active() -> Option<&'static Trace> {
    static TRACE: OnceLock<Option<Trace>> = OnceLock::new();
    TRACE.get_or_init(Trace::from_environment).as_ref()
}

impl Trace {
    fn from_environment() -> Option<Self> {
        let out: Box<dyn Write + Send> = match std::env::var(VARIABLE).ok()?.as_str() {
            "" | "0" => return None,
            "2" => Box::new(io::stderr()),
            _ => {
                let path = std::env::temp_dir().join(format!("farexec-debug-{}.txt", std::process::id()));
                let file = OpenOptions::new().create(true).append(true).open(&path);
                // Debugging must not stop what is debugged.
                Box::new(file.inspect_err(|error| tracing::warn!(%error, ?path, "no trace is written")).ok()?)
            }
        };
        Some(Self { out: Mutex::new(out), began: Instant::now() })
    }

    /// Frames on their way to a worker.
    pub(crate) fn sent(&self, gateway: &str, mut bytes: &[u8]) {
        let mut frames = FrameReader::default();
        while let Ok(Some(frame)) = frames.next(&mut bytes) {
            self.line(gateway, "->", &frame);
        }
    }

    /// A frame from a worker.
    pub(crate) fn received(&self, gateway: &str, frame: &Frame<'_>) {
        self.line(gateway, "<-", frame);
    }

    /// Something that is no frame.
    pub(crate) fn note(&self, gateway: &str, text: &str) {
        self.write(gateway, "--", text);
    }

    fn line(&self, gateway: &str, direction: &str, frame: &Frame<'_>) {
        let Frame { kind, channel, payload, .. } = frame;
        let mut text = format!("{kind:?}");
        if *channel != ChannelId::GATEWAY {
            let _ = write!(text, " channel {channel}");
        }
        if !payload.is_empty() {
            let _ = write!(text, ", {} bytes", payload.len());
        }
        if let Some(value) = shown(frame) {
            let _ = write!(text, ": {value}");
        }
        self.write(gateway, direction, &text);
    }

    fn write(&self, gateway: &str, direction: &str, text: &str) {
        let line = format!("{:11.6} {gateway} {direction} {text}\n", self.began.elapsed().as_secs_f64());
        // Nobody can be told that a trace cannot be written.
        let _ = self.out.lock().write_all(line.as_bytes());
    }
}

/// The beginning of what a frame carries, if that is an object.
fn shown(frame: &Frame<'_>) -> Option<String> {
    let has_object = matches!(
        frame.kind,
        Kind::Execute | Kind::Item | Kind::CloseError | Kind::StatusReply | Kind::Terminate | Kind::Hello
    );
    if !has_object || frame.payload.is_empty() || frame.payload.len() > TRACED_PAYLOAD {
        return None;
    }
    let coercion = StringCoercion::default();
    let value = Value::from_payload(frame.encoding, &frame.payload, coercion).ok()?;
    let mut text = value.to_string().replace('\n', "\\n");
    if let Some((end, _)) = text.char_indices().nth(TRACED_TEXT) {
        text.truncate(end);
        text.push_str("...");
    }
    Some(text)
}
