//! Rsync: makes trees of files at workers what a tree here is.
//!
//! The source is looked at once ([`tree`]); then each target has a thread of its own that talks with `receiver.py` there
//! ([`target`]), while the caller's thread tells the observer what happens. The bytes that travel are what [`delta`] finds to
//! be new.

mod delta;
mod target;
mod tree;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use crate::channel::Channel;
use crate::gateway::Gateway;
use crate::limits::INTERRUPT_CHECK;
use crate::sys;
use crate::wait::{Wait, WaitError};

use target::{Note, Target};
use tree::Tree;

/// Makes trees of files at workers what a tree here is: only what changed is sent, to all targets at once.
///
/// What is compared is size and time of modification; what differs is compared by content, block by block. Files of more than 64 KiB for a
/// worker on this machine are copied by the system instead. Permissions and times of files, and
/// permissions of directories, become those of the source. Links stay links; one to an absolute path in the source leads to the same
/// place in the destination. A file appears whole under its name or not at all. Owners, hard links, extended attributes, the times of directories and
/// holes in files are not carried over.
///
/// ```
/// use farexec::{Group, Rsync};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let (source, there) = (folder.path().join("source"), folder.path().join("there"));
/// std::fs::create_dir(&source)?;
/// std::fs::write(source.join("hello"), "world")?;
///
/// let group = Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let report = Rsync::new(&source).to(&gateway, &there).send()?;
/// assert_eq!(report.targets[0].files, 1);
/// assert_eq!(std::fs::read_to_string(there.join("hello"))?, "world");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Rsync {
    source: PathBuf,
    targets: Vec<Target>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RsyncReport {
    /// What was done at each target, in the order in which they were added.
    pub targets: Vec<TargetReport>,
}

/// What was done at one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetReport {
    /// Files that were written.
    pub files: u64,
    /// Bytes of content that were sent.
    pub sent: u64,
    /// Bytes of content that the target had in older versions of the same files.
    pub reused: u64,
    /// Bytes of content that the target's worker copied itself, being on this machine.
    pub copied: u64,
    /// Names that were deleted, each with all under it.
    pub deleted: u64,
}

/// One path that is not what it should be now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The id of the target's gateway; `None` if it failed here, for all of them.
    pub gateway: Option<String>,
    /// The path, relative to the source; empty for the tree as a whole.
    pub path: PathBuf,
    /// What the system said.
    pub reason: String,
}

/// Why not everything was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RsyncError {
    /// There is nowhere to send to.
    #[error("there is no target to send to")]
    NoTargets,
    /// The source cannot be read. Nothing was sent.
    #[error("cannot read the source `{}`", .path.display())]
    Source {
        /// What could not be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the source is no file, no directory and no link. Nothing was sent.
    #[error("cannot send `{}`: it is no file, no directory and no link", .0.display())]
    Special(PathBuf),
    /// Some paths could not be read or written; everything else was done.
    #[error("{}", describe(.failures))]
    Incomplete {
        /// What was done all the same.
        report: RsyncReport,
        /// Each path, and why.
        failures: Vec<Failure>,
    },
    /// The observer did not want to go on.
    #[error("stopped by its observer")]
    Stopped,
    /// The caller was called away, or the time was up. Files that were not finished are as they were.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The system refused something that every target needs.
    #[error("the system refused a thread")]
    System(#[source] io::Error),
}

/// The observer's wish not to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

impl From<Stop> for RsyncError {
    fn from(_: Stop) -> Self {
        Self::Stopped
    }
}

/// What happens at a target, for an observer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RsyncEvent<'a> {
    /// It is known what is missing there: files of so many bytes together.
    Listed {
        /// Their sizes together.
        bytes: u64,
    },
    /// Content of a file is about to be sent.
    Sending {
        /// The path, relative to the source.
        path: &'a Path,
    },
    /// A file is in place there.
    Done {
        /// The path, relative to the source.
        path: &'a Path,
        /// Its size.
        bytes: u64,
    },
    /// The target has everything that could be sent.
    Finished,
}

/// Who decides what is sent, and is told what happens; called in the thread that called [`Rsync::send_with`].
///
/// ```
/// use farexec::{Channel, Observer, Rsync, RsyncEvent, Stop, Wait};
/// use std::path::Path;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// struct NoObjects(u64);
///
/// impl Observer for NoObjects {
///     fn wants(&mut self, path: &Path) -> Result<bool, Stop> {
///         Ok(path.extension().is_none_or(|extension| extension != "o"))
///     }
///
///     fn event(&mut self, _: usize, _: &Channel, event: RsyncEvent<'_>) -> Result<(), Stop> {
///         if let RsyncEvent::Done { .. } = event {
///             self.0 += 1;
///         }
///         Ok(())
///     }
/// }
///
/// let folder = tempfile::tempdir()?;
/// let (source, there) = (folder.path().join("source"), folder.path().join("there"));
/// std::fs::create_dir(&source)?;
/// std::fs::write(source.join("main.c"), "int main() {}")?;
/// std::fs::write(source.join("main.o"), "binary")?;
/// let gateway = group.make_gateway("popen")?;
/// let mut observer = NoObjects(0);
/// Rsync::new(&source).to(&gateway, &there).send_with(&mut observer, &Wait::forever())?;
/// assert_eq!(observer.0, 1);
/// assert!(there.join("main.c").exists() && !there.join("main.o").exists());
/// # Ok(())
/// # }
/// ```
pub trait Observer {
    /// Whether an entry of the source belongs to the tree; of a directory, with all under it. `path` begins with the source's.
    ///
    /// # Errors
    /// [`Stop`] to end it all.
    fn wants(&mut self, path: &Path) -> Result<bool, Stop> {
        let _ = path;
        Ok(true)
    }

    /// Something happened at the target with this number, over this channel.
    ///
    /// # Errors
    /// [`Stop`] to end it all.
    fn event(&mut self, target: usize, channel: &Channel, event: RsyncEvent<'_>) -> Result<(), Stop> {
        let _ = (target, channel, event);
        Ok(())
    }
}

/// Wants everything, and needs to know nothing.
impl Observer for () {}

impl Rsync {
    /// Of this directory, or this file.
    #[must_use]
    pub fn new(source: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), targets: Vec::new() }
    }

    /// Adds a target: this path at that gateway, relative to its working directory. Directories above it are made.
    #[must_use]
    pub fn to(mut self, gateway: &Gateway, destination: impl AsRef<Path>) -> Self {
        self.targets.push(Target::new(gateway, sys::path_bytes(destination.as_ref()), false));
        self
    }

    /// As [`to`](Self::to), and deletes what is there and not in the source.
    ///
    /// ```
    /// use farexec::Rsync;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let folder = tempfile::tempdir()?;
    /// let (source, there) = (folder.path().join("source"), folder.path().join("there"));
    /// std::fs::create_dir(&source)?;
    /// std::fs::create_dir(&there)?;
    /// std::fs::write(there.join("left over"), "")?;
    /// let gateway = group.make_gateway("popen")?;
    /// let report = Rsync::new(&source).mirror_to(&gateway, &there).send()?;
    /// assert_eq!(report.targets[0].deleted, 1);
    /// assert!(!there.join("left over").exists());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mirror_to(mut self, gateway: &Gateway, destination: impl AsRef<Path>) -> Self {
        self.targets.push(Target::new(gateway, sys::path_bytes(destination.as_ref()), true));
        self
    }

    /// Sends it to all targets.
    ///
    /// # Errors
    /// [`RsyncError`]
    pub fn send(&self) -> Result<RsyncReport, RsyncError> {
        self.send_with(&mut (), &Wait::forever())
    }

    /// Sends what the observer wants to all targets, and tells it what happens.
    ///
    /// # Errors
    /// [`RsyncError`]
    pub fn send_with(&self, observer: &mut dyn Observer, wait: &Wait<'_>) -> Result<RsyncReport, RsyncError> {
        let wait = &wait.blocking();
        if self.targets.is_empty() {
            return Err(RsyncError::NoTargets);
        }
        let mut failures = Vec::new();
        let tree = Tree::scan(&self.source, observer, &mut failures)?;
        let batches = tree.batches();
        let mut report = RsyncReport { targets: vec![TargetReport::default(); self.targets.len()] };
        let mut channels: Vec<Option<Channel>> = Vec::new();
        for target in &self.targets {
            channels.push(match target.open() {
                Ok(channel) => Some(channel),
                Err(reason) => {
                    failures.push(target.failure(PathBuf::new(), reason));
                    None
                }
            });
        }
        let is_over = AtomicBool::new(false);
        let (notes, noted) = mpsc::channel();
        thread::scope(|scope| {
            let end_all = || {
                is_over.store(true, Ordering::Relaxed);
                channels.iter().flatten().for_each(Channel::close);
            };
            for (number, channel) in channels.iter().enumerate() {
                let Some(channel) = channel else { continue };
                let (notes, tree, batches, is_over) = (notes.clone(), &tree, &batches, &is_over);
                let converse = move || {
                    let note = |note| drop(notes.send((number, note)));
                    target::converse(channel, tree, batches, &|| is_over.load(Ordering::Relaxed), &note);
                };
                if let Err(error) =
                    thread::Builder::new().name("farexec-rsync".into()).spawn_scoped(scope, converse)
                {
                    end_all();
                    return Err(RsyncError::System(error));
                }
            }
            drop(notes);
            loop {
                let nap = wait.deaf_nap().unwrap_or(INTERRUPT_CHECK);
                let (number, note) = match noted.recv_timeout(nap) {
                    Ok(note) => note,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Err(RecvTimeoutError::Timeout) => match wait.check() {
                        Ok(()) => continue,
                        Err(error) => {
                            end_all();
                            return Err(error.into());
                        }
                    },
                };
                let Some(channel) = &channels[number] else { continue };
                let path = |number: usize| tree.relative(number).unwrap_or(Path::new("")).to_owned();
                let mut tell = |event: RsyncEvent<'_>| observer.event(number, channel, event);
                let told = match note {
                    Note::Listed(bytes) => tell(RsyncEvent::Listed { bytes }),
                    Note::Sending(file) => tell(RsyncEvent::Sending { path: &path(file) }),
                    Note::Done(file, bytes) => tell(RsyncEvent::Done { path: &path(file), bytes }),
                    Note::Failed(file, reason) => {
                        let path = file.map(path).unwrap_or_default();
                        failures.push(self.targets[number].failure(path, reason));
                        Ok(())
                    }
                    Note::Unreadable(file, error) => {
                        let failure = Failure::at_source(&path(file), &error);
                        if !failures.contains(&failure) {
                            failures.push(failure);
                        }
                        Ok(())
                    }
                    Note::Finished(done) => {
                        report.targets[number] = done;
                        tell(RsyncEvent::Finished)
                    }
                };
                if let Err(stop) = told {
                    end_all();
                    return Err(stop.into());
                }
            }
        })?;
        if failures.is_empty() { Ok(report) } else { Err(RsyncError::Incomplete { report, failures }) }
    }
}

impl Failure {
    fn at_source(path: &Path, error: &io::Error) -> Self {
        Self { gateway: None, path: path.to_owned(), reason: error.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.gateway.as_deref().unwrap_or("the source");
        if self.path.as_os_str().is_empty() {
            return write!(f, "at {at}: {}", self.reason);
        }
        write!(f, "`{}` at {at}: {}", self.path.display(), self.reason)
    }
}

/// How many failures a text names one by one.
const NAMED: usize = 5;

fn describe(failures: &[Failure]) -> String {
    let mut text = String::from("not everything was sent: ");
    let named: Vec<String> = failures.iter().take(NAMED).map(Failure::to_string).collect();
    text.push_str(&named.join("; "));
    if failures.len() > NAMED {
        text.push_str(&format!("; and {} more", failures.len() - NAMED));
    }
    text
}
