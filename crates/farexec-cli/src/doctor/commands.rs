//! Runs a command to its end, but no longer than is worth waiting for.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::stop::Stop;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What a command said, and how it ended.
pub(super) struct Said {
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// `None` if it was killed, by a signal or because it took too long.
    pub(super) status: Option<i32>,
}

impl Said {
    /// What a person wants to know of it.
    pub(super) fn why(&self) -> String {
        let text = if self.stderr.trim().is_empty() { self.stdout.trim() } else { self.stderr.trim() };
        let end = match self.status {
            Some(status) => format!("exited with status {status}"),
            None => format!("did not end within {} seconds, or was killed", LIMIT.as_secs()),
        };
        if text.is_empty() { end } else { format!("{text} ({end})") }
    }
}

/// Runs a command without input.
pub(super) fn run(words: &[String], setting: impl FnOnce(&mut Command), stop: &Stop) -> io::Result<Said> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    setting(&mut command);
    let mut child = command.spawn()?;
    let (stdout, stderr) = (reader(child.stdout.take())?, reader(child.stderr.take())?);
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        if began.elapsed() > LIMIT || stop.is_asked() {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(LOOK);
    };
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        // Something that it started may hold the pipe open.
        let patience = Instant::now() + Duration::from_millis(500);
        while !reader.is_finished() && Instant::now() < patience {
            thread::sleep(LOOK);
        }
        let bytes = if reader.is_finished() { reader.join().unwrap_or_default() } else { Vec::new() };
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Said { stdout: text(stdout), stderr: text(stderr), status })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> io::Result<thread::JoinHandle<Vec<u8>>> {
    thread::Builder::new().name("farexec-doctor".into()).spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still of interest.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}
