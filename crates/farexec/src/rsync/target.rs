//! One target: the conversation with `receiver.py`, which says what is what in it.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use farexec_proto::Value;
use farexec_proto::encoding::{Emit, Encode, EncodeError};

use super::delta::{self, Part, Sums};
use super::tree::Tree;
use super::{Failure, TargetReport};
use crate::channel::{Channel, ReceiveError, SendError};
use crate::gateway::Gateway;
use crate::source::Source;
use crate::sys;
use crate::wait::{Wait, WaitError};

const RECEIVER: &str = include_str!("../receiver.py");

/// Files up to this many bytes travel several in one item.
const SMALL: u64 = 64 << 10;

/// Bytes and files that travel in one item.
const ITEM_BYTES: usize = 256 << 10;
const ITEM_FILES: usize = 256;

/// Where a tree is sent to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    gateway: Gateway,
    destination: Vec<u8>,
    delete: bool,
}

/// What the conversation tells the caller's thread.
#[derive(Debug)]
pub(super) enum Note {
    Listed(u64),
    Sending(usize),
    Done(usize, u64),
    /// The target could not do something: with this entry, or altogether.
    Failed(Option<usize>, String),
    /// A file could not be read here.
    Unreadable(usize, io::Error),
    Finished(TargetReport),
}

impl Target {
    pub(super) fn new(gateway: &Gateway, destination: &[u8], delete: bool) -> Self {
        Self { gateway: gateway.clone(), destination: destination.to_vec(), delete }
    }

    /// Starts the receiver.
    pub(super) fn open(&self) -> Result<Channel, String> {
        let code = Source::text(RECEIVER).at("<farexec receiver>", 1).call("receive").part("rsync").beside();
        let code = code
            .with("destination", Value::Bytes(self.destination.clone()))
            .with("delete", self.delete)
            .with("here", self.gateway.is_on_this_machine());
        let channel = self.gateway.remote_exec(code).map_err(|error| error.to_string())?;
        channel.reconfigure(false, false).map_err(|error| error.to_string())?;
        Ok(channel)
    }

    pub(super) fn failure(&self, path: PathBuf, reason: String) -> Failure {
        Failure { gateway: Some(self.gateway.id().to_owned()), path, reason }
    }
}

/// Has the whole conversation. Its end is a [`Note::Finished`], or a [`Note::Failed`] that names no entry; there is none after `is_over` said yes.
pub(super) fn converse(
    channel: &Channel,
    tree: &Tree,
    batches: &[Value],
    is_over: &(dyn Fn() -> bool + Sync),
    note: &dyn Fn(Note),
) {
    let wait = Wait::forever().unless(is_over);
    let mut conversation = Conversation {
        channel,
        tree,
        wait,
        note,
        asked: vec![false; tree.len()],
        is_here: channel.gateway().is_on_this_machine(),
        report: TargetReport::default(),
    };
    match conversation.run(batches) {
        Ok(()) => note(Note::Finished(conversation.report)),
        Err(Broken::Over) => {}
        Err(Broken::Lost(reason)) => note(Note::Failed(None, reason)),
    }
}

struct Conversation<'a> {
    channel: &'a Channel,
    tree: &'a Tree,
    wait: Wait<'a>,
    note: &'a dyn Fn(Note),
    /// Which files the target has asked for, and not yet reported in place.
    asked: Vec<bool>,
    /// Whether the target can open what can be opened here.
    is_here: bool,
    report: TargetReport,
}

/// Why a conversation does not go on.
enum Broken {
    /// The caller has ended it.
    Over,
    /// The target has ended it.
    Lost(String),
}

/// A file that the target asks for.
struct Wanted {
    number: usize,
    old: Option<Sums>,
}

/// What a target answers.
enum Answer {
    Wanted(Vec<Wanted>),
    Listed,
    Done(Vec<usize>),
    Failed(Option<usize>, String),
    End(u64),
}

impl Conversation<'_> {
    fn run(&mut self, batches: &[Value]) -> Result<(), Broken> {
        for batch in batches {
            self.send(batch)?;
        }
        self.send(&item("listed", []))?;
        let mut wanted = Vec::new();
        loop {
            match self.answer()? {
                Answer::Wanted(more) => wanted.extend(more),
                Answer::Listed => break,
                other => self.take(other)?,
            }
        }
        let size = |file: &Wanted| self.tree.file(file.number).map_or(0, |entry| entry.size);
        (self.note)(Note::Listed(wanted.iter().map(size).sum()));
        self.send_files(wanted)?;
        self.send(&item("end", []))?;
        loop {
            match self.answer()? {
                Answer::End(deleted) => {
                    self.report.deleted = deleted;
                    return Ok(());
                }
                other => self.take(other)?,
            }
        }
    }

    fn send_files(&mut self, wanted: Vec<Wanted>) -> Result<(), Broken> {
        let mut whole = WholeFiles::default();
        for file in wanted {
            let Some(entry) = self.tree.file(file.number) else { continue };
            let opened = sys::open_regular(&self.tree.place(entry));
            let (mut input, metadata) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    self.unreadable(file.number, error);
                    continue;
                }
            };
            if file.old.is_none() && metadata.len() <= SMALL {
                // It may grow while it is read.
                match (&mut input).take(SMALL + 1).read_to_end(whole.content()) {
                    Ok(count) if count as u64 <= SMALL => {
                        whole.finish(file.number, &metadata);
                        if whole.is_full() {
                            self.send_whole(&mut whole)?;
                        }
                        continue;
                    }
                    Ok(_) => whole.forget(),
                    Err(error) => {
                        whole.forget();
                        self.unreadable(file.number, error);
                        continue;
                    }
                }
                if let Err(error) = input.rewind() {
                    self.unreadable(file.number, error);
                    continue;
                }
            }
            self.send_whole(&mut whole)?;
            if self.is_here && metadata.len() > SMALL {
                self.have_taken(file.number, &metadata)?;
            } else {
                self.send_parts(&file, input, &metadata)?;
            }
            self.take_waiting()?;
        }
        self.send_whole(&mut whole)
    }

    fn send_whole(&mut self, files: &mut WholeFiles) -> Result<(), Broken> {
        if files.numbers.is_empty() {
            return Ok(());
        }
        for &number in &files.numbers {
            (self.note)(Note::Sending(number as usize));
        }
        self.send(files)?;
        self.report.sent += files.bytes.len() as u64;
        files.clear();
        self.take_waiting()
    }

    /// Has a target on this machine copy a file itself: the system moves nothing through anybody, and on some file systems nothing at all.
    fn have_taken(&mut self, number: usize, metadata: &Metadata) -> Result<(), Broken> {
        let Some(entry) = self.tree.file(number) else { return Ok(()) };
        let path = match std::path::absolute(self.tree.place(entry)) {
            Ok(path) => path,
            Err(error) => {
                self.unreadable(number, error);
                return Ok(());
            }
        };
        (self.note)(Note::Sending(number));
        self.send(&item("begin", [Value::from(number as i64), Value::from(sys::modified(metadata))]))?;
        let (device, inode) = sys::place(metadata);
        self.send(&item("take", [sys::path_bytes(&path).into(), device.into(), inode.into()]))?;
        self.send(&item("commit", []))?;
        self.report.copied += metadata.len();
        Ok(())
    }

    fn send_parts(&mut self, file: &Wanted, input: File, metadata: &Metadata) -> Result<(), Broken> {
        let number = file.number;
        let head = [Value::from(number as i64), Value::from(sys::modified(metadata))];
        let mut begun = false;
        let result = {
            let mut emit = |part: Part<'_>| -> Result<(), PartError> {
                if !begun {
                    (self.note)(Note::Sending(number));
                    self.send(&item("begin", head.clone()))?;
                    begun = true;
                }
                match part {
                    Part::New(bytes) => {
                        self.report.sent += bytes.len() as u64;
                        self.send(&Bytes(bytes))?;
                    }
                    Part::Old { offset, length } => {
                        self.report.reused += length;
                        self.send(&item("copy", [offset, length].map(|number| Value::from(number as i64))))?;
                    }
                }
                Ok(())
            };
            match &file.old {
                Some(sums) => delta::delta(input, sums, &mut emit),
                None => in_chunks(input, &mut emit).map(|()| false),
            }
        };
        match result {
            Ok(true) => self.send(&item("same", head)),
            Ok(false) if !begun => {
                // It has become empty.
                self.send(&item("begin", head))?;
                self.send(&item("commit", []))
            }
            Ok(false) => self.send(&item("commit", [])),
            Err(PartError::Broken(broken)) => Err(broken),
            Err(PartError::Read(error)) => {
                self.unreadable(number, error);
                if begun { self.send(&item("abort", [])) } else { Ok(()) }
            }
        }
    }

    fn unreadable(&mut self, number: usize, error: io::Error) {
        (self.note)(Note::Unreadable(number, error));
    }

    /// Takes what the target has said meanwhile.
    fn take_waiting(&mut self) -> Result<(), Broken> {
        while let Some(payload) = self.channel.try_receive_payload() {
            let value = payload.value().map_err(|error| Broken::Lost(error.to_string()))?;
            let answer = self.read(&value)?;
            self.take(answer)?;
        }
        Ok(())
    }

    fn take(&mut self, answer: Answer) -> Result<(), Broken> {
        match answer {
            Answer::Done(numbers) => {
                for number in numbers {
                    if !std::mem::take(&mut self.asked[number]) {
                        return Err(Broken::Lost(
                            "the receiver reports a file that it did not ask for".into(),
                        ));
                    }
                    self.report.files += 1;
                    let size = self.tree.file(number).map_or(0, |entry| entry.size);
                    (self.note)(Note::Done(number, size));
                }
                Ok(())
            }
            Answer::Failed(number, reason) => {
                (self.note)(Note::Failed(number, reason));
                Ok(())
            }
            _ => Err(Broken::Lost("the receiver answered out of turn".into())),
        }
    }

    fn answer(&mut self) -> Result<Answer, Broken> {
        let payload = self.channel.receive_payload(&self.wait).map_err(|error| match error {
            ReceiveError::Wait(WaitError::Interrupted) => Broken::Over,
            error => Broken::Lost(error.to_string()),
        })?;
        let value = payload.value().map_err(|error| Broken::Lost(error.to_string()))?;
        self.read(&value)
    }

    /// Understands an answer. A file is given to a target that asks for it by its number in the tree, once, and nothing else is.
    fn read(&mut self, value: &Value) -> Result<Answer, Broken> {
        let nonsense = || Broken::Lost(format!("the receiver answered {}", shortened(value)));
        let Value::List(parts) = value else { return Err(nonsense()) };
        let Some((Value::Str(what), rest)) = parts.split_first() else { return Err(nonsense()) };
        let number_of = |number: i64| {
            let number = usize::try_from(number).ok();
            number.filter(|&number| self.tree.file(number).is_some())
        };
        match (what.as_str(), rest) {
            ("need", [Value::Bytes(numbers)]) => {
                let numbers: Option<Vec<usize>> = unpack(numbers).map(number_of).collect();
                let wanted: Vec<Wanted> = numbers
                    .ok_or_else(nonsense)?
                    .into_iter()
                    .map(|number| Wanted { number, old: None })
                    .collect();
                self.ask(wanted).ok_or_else(nonsense)
            }
            ("sums", [Value::Int(number), Value::Int(block), Value::Int(length), Value::Bytes(sums)]) => {
                let number = number_of(*number).ok_or_else(nonsense)?;
                let sums = Sums::new(*block, *length, sums).ok_or_else(nonsense)?;
                self.ask(vec![Wanted { number, old: Some(sums) }]).ok_or_else(nonsense)
            }
            ("listed", []) => Ok(Answer::Listed),
            ("done", [Value::Bytes(numbers)]) => {
                let numbers: Option<Vec<usize>> = unpack(numbers).map(number_of).collect();
                Ok(Answer::Done(numbers.ok_or_else(nonsense)?))
            }
            ("failed", [Value::Int(number), Value::Str(reason)]) => {
                let number = usize::try_from(*number).ok().filter(|&number| number < self.tree.len());
                Ok(Answer::Failed(number, reason.clone()))
            }
            ("end", [Value::Int(deleted)]) => Ok(Answer::End(u64::try_from(*deleted).unwrap_or(0))),
            _ => Err(nonsense()),
        }
    }

    fn ask(&mut self, wanted: Vec<Wanted>) -> Option<Answer> {
        for file in &wanted {
            if std::mem::replace(&mut self.asked[file.number], true) {
                return None;
            }
        }
        Some(Answer::Wanted(wanted))
    }

    fn send(&self, item: &impl Encode) -> Result<(), Broken> {
        let lost = |error: SendError| match error {
            SendError::Wait(_) => Broken::Over,
            error => match self.channel.take_remote_error() {
                Some(remote) => Broken::Lost(remote.to_string()),
                None => Broken::Lost(error.to_string()),
            },
        };
        if self.channel.start_sending(item).map_err(lost)? {
            self.channel.finish_sending(&self.wait).map_err(lost)?;
        }
        Ok(())
    }
}

/// Why the parts of a file were not all sent.
enum PartError {
    Read(io::Error),
    Broken(Broken),
}

impl From<io::Error> for PartError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<Broken> for PartError {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn in_chunks(
    mut input: File,
    emit: &mut impl FnMut(Part<'_>) -> Result<(), PartError>,
) -> Result<(), PartError> {
    let mut chunk = vec![0; ITEM_BYTES];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => emit(Part::New(&chunk[..count]))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn item<const N: usize>(what: &str, rest: [Value; N]) -> Value {
    let mut parts = vec![Value::from(what)];
    parts.extend(rest);
    Value::List(parts)
}

/// The beginning of a value as text.
fn shortened(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

fn unpack(numbers: &[u8]) -> impl Iterator<Item = i64> {
    // What is left over at the end is no number of a file.
    numbers.chunks(4).map(|bytes| bytes.try_into().map_or(-1, |bytes| i64::from(u32::from_le_bytes(bytes))))
}

/// Bytes that are not owned, as an item.
struct Bytes<'a>(&'a [u8]);

impl Encode for Bytes<'_> {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        emit.bytes(self.0)
    }
}

/// Files that travel together, each whole.
#[derive(Default)]
struct WholeFiles {
    numbers: Vec<u32>,
    times: Vec<i64>,
    bytes: Vec<u8>,
    /// Where each content ends in `bytes`.
    ends: Vec<usize>,
}

impl WholeFiles {
    /// Where the content of the next one is appended.
    fn content(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The next one has all its content.
    fn finish(&mut self, number: usize, metadata: &Metadata) {
        self.numbers.push(u32::try_from(number).unwrap_or(u32::MAX));
        self.times.push(sys::modified(metadata));
        self.ends.push(self.bytes.len());
    }

    /// There is no next one after all.
    fn forget(&mut self) {
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= ITEM_BYTES || self.numbers.len() >= ITEM_FILES
    }

    fn clear(&mut self) {
        self.numbers.clear();
        self.times.clear();
        self.bytes.clear();
        self.ends.clear();
    }
}

impl Encode for WholeFiles {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        let numbers: Vec<u8> = self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let times: Vec<u8> = self.times.iter().flat_map(|time| time.to_le_bytes()).collect();
        emit.begin_tuple(4)?;
        emit.str("files")?;
        emit.bytes(&numbers)?;
        emit.bytes(&times)?;
        emit.begin_tuple(self.ends.len())?;
        let mut start = 0;
        for &end in &self.ends {
            emit.bytes(&self.bytes[start..end])?;
            start = end;
        }
        emit.end_tuple(self.ends.len())?;
        emit.end_tuple(4)
    }
}
