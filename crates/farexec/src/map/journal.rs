//! The file that keeps the results of a map, so that a run that was cut off can be taken up again. `docs/JOURNAL.md` has its format.
//!
//! Results are only ever added. What is found when it is opened was written by a process that may have been killed in the middle, on a
//! disk that may have lost something: every record proves by a checksum that it is whole, and stands where it was written.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use farexec_proto::encoding::{StringCoercion, dump};
use farexec_proto::{Encoding, Value};
use flate2::Crc;

use super::farm::Task;
use super::identity::{self, Digest};
use crate::limits::JOURNAL_SYNC;
use crate::payload::Payload;
use crate::sys;

/// What such a file begins with.
const MAGIC: &[u8] = b"FAREXEC JOURNAL 1\n";

/// What a record begins with, so that the next one can be found behind damage.
const MARKER: [u8; 4] = *b"\xF7\xFErj";

/// Marker, length and checksum.
const RECORD_HEADER: usize = 12;

/// What stands in front of a result: position, digest and encoding of its item.
const RESULT_HEADER: usize = 25;

/// A number that only this file has, so that a copy of another one's records is none of its own.
type Id = [u8; 16];

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It could not be read or written.
    #[error("the journal {path}: {error}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The file is something else.
    #[error("{0} is no journal, and is left as it is")]
    NotOne(PathBuf),
    /// What it is of can no longer be read, though there are results behind it.
    #[error("the beginning of the journal {0} is damaged: it does not say what the results in it are of")]
    Damaged(PathBuf),
    /// Another run has it.
    #[error("the journal {0} is in use by another run")]
    InUse(PathBuf),
    /// It is of another function.
    #[error("the journal {path} is not of this run: {difference}. Use another file, or remove this one")]
    OtherFunction {
        /// Where it is.
        path: PathBuf,
        /// What is different.
        difference: String,
    },
    /// It is of other items.
    #[error(
        "the journal {path} is not of this run: it has a result for item {index}, which was another one then. Use another file, or the items in their order"
    )]
    OtherItem {
        /// Where it is.
        path: PathBuf,
        /// The position of the item.
        index: u64,
    },
}

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    id: Id,
    /// Where the record of each item is whose result is there.
    places: HashMap<u64, u64>,
    /// Where the next record is written.
    end: u64,
    /// Records that are to be written.
    unwritten: Vec<u8>,
    /// When what was written was last made to outlast a power failure, and whether there is something new.
    synced: Instant,
    is_dirty: bool,
}

impl Journal {
    /// Opens a journal of this run, or begins one.
    pub(super) fn open(path: &Path, run: &Value) -> Result<Self, JournalError> {
        let failed = |error| JournalError::File { path: path.to_owned(), error };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(JournalError::NotOne(path.to_owned()));
        }
        if !sys::lock(&file).map_err(failed)? {
            return Err(JournalError::InUse(path.to_owned()));
        }
        let mut journal = Self {
            path: path.to_owned(),
            file,
            id: Id::default(),
            places: HashMap::new(),
            end: 0,
            unwritten: Vec::new(),
            synced: Instant::now(),
            is_dirty: false,
        };
        journal.load(run)?;
        Ok(journal)
    }

    fn load(&mut self, run: &Value) -> Result<(), JournalError> {
        let failed = |error| JournalError::File { path: self.path.clone(), error };
        let mut records = Records::new(&self.file).map_err(failed)?;
        if !records.begins_with_magic().map_err(failed)? {
            return Err(JournalError::NotOne(self.path.clone()));
        }
        let head = records.next(&Id::default()).map_err(failed)?;
        let is_first = head == Some(MAGIC.len() as u64);
        let Some((id, then)) = is_first.then(|| read_head(&records.body)).flatten() else {
            // It was cut off before there was anything in it; or what follows is of nobody knows what.
            let is_empty = head.is_none() && !records.has_marker_beyond_first().map_err(failed)?;
            return if is_empty { self.begin(run) } else { Err(JournalError::Damaged(self.path.clone())) };
        };
        if let Some(difference) = identity::difference(&then, run) {
            return Err(JournalError::OtherFunction { path: self.path.clone(), difference });
        }
        let mut places = HashMap::new();
        while let Some(place) = records.next(&id).map_err(failed)? {
            if let Some(index) = records.body.first_chunk() {
                places.entry(u64::from_le_bytes(*index)).or_insert(place);
            }
        }
        if records.skipped > 0 {
            tracing::warn!(journal = %self.path.display(), bytes = records.skipped, "a part of a journal is damaged");
        }
        // A record that was cut off is not whole, and makes place.
        self.file.set_len(records.whole).map_err(failed)?;
        (self.id, self.places, self.end) = (id, places, records.whole);
        Ok(())
    }

    fn begin(&mut self, run: &Value) -> Result<(), JournalError> {
        let failed = |error| JournalError::File { path: self.path.clone(), error };
        getrandom::fill(&mut self.id).map_err(|error| failed(error.into()))?;
        let mut body = self.id.to_vec();
        // What a run is consists of text alone.
        let _ = dump::encode(run, &mut body);
        let mut bytes = MAGIC.to_vec();
        append(&mut bytes, 0, &Id::default(), &[&body]);
        self.file.set_len(0).map_err(failed)?;
        sys::write_at(&self.file, &bytes, 0).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        // A name, too, has to outlast a power failure.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(failed)?;
        self.end = bytes.len() as u64;
        Ok(())
    }

    /// The result of an item, if it is there.
    pub(super) fn find(&self, task: &Task) -> Result<Option<Payload>, JournalError> {
        let Some(&place) = self.places.get(&task.index) else { return Ok(None) };
        let failed = |error| JournalError::File { path: self.path.clone(), error };
        let record = read_record(&self.file, place, &self.id).map_err(failed)?;
        let (digest, payload) = read_result(&record).ok_or_else(|| failed(damaged()))?;
        if digest != identity::digest(task) {
            return Err(JournalError::OtherItem { path: self.path.clone(), index: task.index });
        }
        Ok(Some(payload))
    }

    /// Has a result kept with the next [`write`](Self::write).
    pub(super) fn keep(&mut self, task: &Task, payload: &Payload) {
        let coercion = payload.coercion();
        let flags = u8::from(payload.encoding() == Encoding::Dump)
            | u8::from(coercion.py2str_as_py3str) << 1
            | u8::from(coercion.py3str_as_py2str) << 2;
        let parts: [&[u8]; 4] =
            [&task.index.to_le_bytes(), &identity::digest(task), &[flags], payload.bytes()];
        append(&mut self.unwritten, self.end, &self.id, &parts);
    }

    /// Whether results are only in memory so far.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Writes what is to be kept. What cannot be written is tried again the next time.
    pub(super) fn write(&mut self) -> Result<(), JournalError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let written = sys::write_at(&self.file, &self.unwritten, self.end);
        written.map_err(|error| JournalError::File { path: self.path.clone(), error })?;
        self.end += self.unwritten.len() as u64;
        self.unwritten.clear();
        self.is_dirty = true;
        if self.synced.elapsed() >= JOURNAL_SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// Has the system keep what is written, even if the power fails.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        if std::mem::take(&mut self.is_dirty) {
            let synced = self.file.sync_data();
            synced.map_err(|error| JournalError::File { path: self.path.clone(), error })?;
        }
        self.synced = Instant::now();
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.write().and_then(|()| self.sync()) {
            tracing::warn!(%error, "the last results of a map are not in its journal");
        }
        sys::unlock(&self.file);
    }
}

/// Appends a record to bytes of which the first are written at `start`.
fn append(bytes: &mut Vec<u8>, start: u64, id: &Id, parts: &[&[u8]]) {
    let place = start + bytes.len() as u64;
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut sum = begin_checksum(id, place);
    parts.iter().for_each(|part| sum.update(part));
    bytes.extend_from_slice(&MARKER);
    // Payloads have less than 2 GiB.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&sum.sum().to_le_bytes());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
}

/// The place is part of it: a result that has a journal's records in it is not taken for them.
fn begin_checksum(id: &Id, place: u64) -> Crc {
    let mut sum = Crc::new();
    sum.update(id);
    sum.update(&place.to_le_bytes());
    sum
}

/// Length and checksum, if a record begins so.
fn read_header(header: [u8; RECORD_HEADER]) -> Option<(u32, u32)> {
    let number =
        |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    header.starts_with(&MARKER).then_some((number(4)?, number(8)?))
}

fn read_head(body: &[u8]) -> Option<(Id, Value)> {
    let (id, run) = body.split_first_chunk()?;
    Some((*id, Value::from_payload(Encoding::Dump, run, StringCoercion::default()).ok()?))
}

fn read_record(file: &File, place: u64, id: &Id) -> io::Result<Vec<u8>> {
    let mut header = [0; RECORD_HEADER];
    sys::read_at(file, &mut header, place)?;
    let (length, expected) = read_header(header).ok_or_else(damaged)?;
    let mut body = vec![0; length as usize];
    sys::read_at(file, &mut body, place + RECORD_HEADER as u64)?;
    let mut sum = begin_checksum(id, place);
    sum.update(&body);
    if sum.sum() == expected { Ok(body) } else { Err(damaged()) }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a result in it is damaged")
}

fn read_result(body: &[u8]) -> Option<(Digest, Payload)> {
    let (header, payload) = body.split_at_checked(RESULT_HEADER)?;
    let flags = *header.last()?;
    let encoding = if flags & 1 == 0 { Encoding::Message } else { Encoding::Dump };
    let coercion = StringCoercion { py2str_as_py3str: flags & 2 != 0, py3str_as_py2str: flags & 4 != 0 };
    Some((header.get(8..24)?.try_into().ok()?, Payload::new(encoding, payload.to_vec(), coercion)))
}

/// The whole records of a file, one after the other.
struct Records<'f> {
    input: BufReader<&'f File>,
    length: u64,
    /// Where the next one is expected.
    at: u64,
    /// Where the last whole one ended.
    whole: u64,
    /// How many bytes between whole ones belong to none.
    skipped: u64,
    body: Vec<u8>,
}

impl<'f> Records<'f> {
    fn new(file: &'f File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        input.seek(SeekFrom::Start(0))?;
        Ok(Self { input, length, at: 0, whole: 0, skipped: 0, body: Vec::new() })
    }

    /// Whether the file begins as a journal does; one that is cut off even before that counts.
    fn begins_with_magic(&mut self) -> io::Result<bool> {
        let mut begin = Vec::new();
        self.input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut begin)?;
        self.at = MAGIC.len() as u64;
        self.whole = self.at;
        Ok(MAGIC.starts_with(&begin))
    }

    /// Reads the next whole record, and returns where it is.
    fn next(&mut self, id: &Id) -> io::Result<Option<u64>> {
        loop {
            let place = self.at;
            if self.read(id)? {
                self.at = place + (RECORD_HEADER + self.body.len()) as u64;
                self.skipped += place - self.whole;
                self.whole = self.at;
                return Ok(Some(place));
            }
            match self.find_marker(place + 1)? {
                Some(next) => self.at = next,
                None => return Ok(None),
            }
        }
    }

    /// Reads the record that begins here, if it is whole.
    fn read(&mut self, id: &Id) -> io::Result<bool> {
        let mut header = [0; RECORD_HEADER];
        if self.length.saturating_sub(self.at) < RECORD_HEADER as u64 {
            return Ok(false);
        }
        self.input.read_exact(&mut header)?;
        let Some((length, expected)) = read_header(header) else { return Ok(false) };
        if u64::from(length) > self.length - self.at - RECORD_HEADER as u64 {
            return Ok(false);
        }
        self.body.clear();
        self.input.by_ref().take(length.into()).read_to_end(&mut self.body)?;
        let mut sum = begin_checksum(id, self.at);
        sum.update(&self.body);
        Ok(self.body.len() == length as usize && sum.sum() == expected)
    }

    /// Whether something behind the beginning looks like a record.
    fn has_marker_beyond_first(&mut self) -> io::Result<bool> {
        Ok(self.find_marker(MAGIC.len() as u64 + 1)?.is_some())
    }

    /// Where the next record may begin, from there on. That is where is read on.
    fn find_marker(&mut self, from: u64) -> io::Result<Option<u64>> {
        self.input.seek(SeekFrom::Start(from))?;
        let (mut at, mut seen) = (from, 0);
        let mut byte = [0];
        while self.input.read(&mut byte)? == 1 {
            at += 1;
            // No part of the marker begins like the marker but its first byte.
            seen = match byte[0] {
                byte if byte == MARKER[seen] => seen + 1,
                byte => usize::from(byte == MARKER[0]),
            };
            if seen == MARKER.len() {
                let place = at - MARKER.len() as u64;
                self.input.seek(SeekFrom::Start(place))?;
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MapOptions;
    use super::super::farm::Farm;
    use super::*;
    use crate::function::Function;

    fn run(call: &str) -> Value {
        let function = Function::Imported { module: "math".into(), call: call.into() };
        identity::of_run(&function, &MapOptions::default())
    }

    fn tasks(items: impl IntoIterator<Item = i64>) -> Vec<Task> {
        let mut farm = Farm::new(MapOptions::default());
        items.into_iter().map(|item| farm.task(&Value::from(item)).unwrap()).collect()
    }

    fn result_of(task: &Task) -> Payload {
        let mut bytes = Vec::new();
        let text = "x".repeat(usize::try_from(task.index).unwrap());
        let result = Value::Tuple(vec![Value::from(text.as_str())]);
        let encoding = farexec_proto::encoding::encode_item(&result, &mut bytes).unwrap();
        Payload::new(encoding, bytes, StringCoercion::default())
    }

    /// A journal with the results of five items.
    fn written(path: &Path) -> Vec<Task> {
        let tasks = tasks(0..5);
        let mut journal = Journal::open(path, &run("sqrt")).unwrap();
        tasks.iter().for_each(|task| journal.keep(task, &result_of(task)));
        journal.write().unwrap();
        tasks
    }

    /// The items whose results are there; each has its own.
    fn found(journal: &Journal, tasks: &[Task]) -> Vec<u64> {
        let found = tasks.iter().filter(|task| {
            journal.find(task).unwrap().is_some_and(|payload| {
                assert_eq!(payload, result_of(task));
                true
            })
        });
        found.map(|task| task.index).collect()
    }

    #[test]
    fn cut_off_anywhere_it_has_what_is_whole_and_takes_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let tasks = written(&path);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut journal = Journal::open(&path, &run("sqrt")).unwrap();
            let known = found(&journal, &tasks);
            assert_eq!(known, (0..known.len() as u64).collect::<Vec<_>>());
            let rest = &tasks[known.len()..];
            assert!(!rest.is_empty());
            rest.iter().for_each(|task| journal.keep(task, &result_of(task)));
            drop(journal);
            let journal = Journal::open(&path, &run("sqrt")).unwrap();
            assert_eq!(found(&journal, &tasks).len(), 5);
            if known.len() == 4 {
                assert_eq!(journal.end, whole.len() as u64);
            }
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_result_at_most_and_never_gives_a_wrong_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let tasks = written(&path);
        let whole = std::fs::read(&path).unwrap();
        let (mut refused, mut lost) = (0, 0);
        for place in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[place / 8] ^= 1 << (place % 8);
            std::fs::write(&path, &bytes).unwrap();
            match Journal::open(&path, &run("sqrt")) {
                Ok(journal) => {
                    assert_eq!(found(&journal, &tasks).len(), 4, "bit {place}");
                    lost += 1;
                }
                Err(JournalError::NotOne(_) | JournalError::Damaged(_)) => {
                    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was changed");
                    refused += 1;
                }
                Err(error) => panic!("bit {place}: {error}"),
            }
        }
        assert!(refused > MAGIC.len() * 8 && lost > refused / 2, "{refused} {lost}");
    }

    /// A result that has the file's own beginning in it, behind damage, gave its records as results.
    #[test]
    fn records_within_results_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let tasks = written(&path);
        let copy = Value::Bytes(std::fs::read(&path).unwrap());
        let mut bytes = Vec::new();
        let encoding = farexec_proto::encoding::encode_item(&copy, &mut bytes).unwrap();
        let more = super::tests::tasks(0..7);
        let mut journal = Journal::open(&path, &run("sqrt")).unwrap();
        let place = usize::try_from(journal.end).unwrap();
        journal.keep(&more[5], &Payload::new(encoding, bytes, StringCoercion::default()));
        journal.keep(&more[6], &result_of(&more[6]));
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[place + RECORD_HEADER] ^= 1;
        for (index, _) in tasks.iter().enumerate() {
            // The originals are gone as well.
            let record = Journal::open(&path, &run("sqrt")).unwrap().places[&(index as u64)];
            bytes[usize::try_from(record).unwrap() + RECORD_HEADER] ^= 1;
        }
        std::fs::write(&path, &bytes).unwrap();
        let journal = Journal::open(&path, &run("sqrt")).unwrap();
        assert_eq!(found(&journal, &more), [6]);
    }

    #[test]
    fn what_is_no_journal_of_this_run_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, "a letter\n").unwrap();
        let error = Journal::open(&path, &run("sqrt")).unwrap_err().to_string();
        assert!(error.ends_with("is no journal, and is left as it is"), "{error}");
        assert!(matches!(Journal::open(folder.path(), &run("sqrt")), Err(JournalError::File { .. })));
        std::fs::remove_file(&path).unwrap();
        written(&path);
        let before = std::fs::read(&path).unwrap();
        let error = Journal::open(&path, &run("cos")).unwrap_err().to_string();
        assert!(error.contains("begun with math:sqrt, and this is math:cos"), "{error}");
        let journal = Journal::open(&path, &run("sqrt")).unwrap();
        let error = journal.find(&tasks([0, 7])[1]).unwrap_err().to_string();
        assert!(error.contains("a result for item 1, which was another one"), "{error}");
        let error = Journal::open(&path, &run("sqrt")).unwrap_err().to_string();
        assert!(error.ends_with("is in use by another run"), "{error}");
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    /// A descriptor that cannot be written to stands for a full disk.
    #[test]
    fn what_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let tasks = written(&path);
        let mut journal = Journal::open(&path, &run("sqrt")).unwrap();
        let more = super::tests::tasks(0..6);
        journal.keep(&more[5], &result_of(&more[5]));
        let writable = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        assert!(matches!(journal.write(), Err(JournalError::File { .. })) && journal.has_unwritten());
        journal.file = writable;
        journal.write().unwrap();
        drop(journal);
        let journal = Journal::open(&path, &run("sqrt")).unwrap();
        assert_eq!(found(&journal, &more).len(), tasks.len() + 1);
    }
}
