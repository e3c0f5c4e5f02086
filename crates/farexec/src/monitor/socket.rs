//! The socket at which a program tells what it is doing: where it is, who may ask, and how it is found.
//!
//! One connection is one question: the program writes one line and closes. So one thread serves everybody, and nobody who stays
//! keeps others from asking.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{VARIABLE, snapshot};
use crate::limits::MONITOR_PATIENCE;
use crate::sys;

/// How the names of sockets end.
const SUFFIX: &str = ".sock";

/// What this process, or the one that it was forked from, has opened.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

struct Opened {
    generation: u32,
    /// `None` if none was asked for, or it could not be opened.
    path: Option<PathBuf>,
}

/// Why a program cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Others could put something there.
    #[error("`{}` is not a directory that only its owner may use: no program can be found there safely", .0.display())]
    Unsafe(PathBuf),
    /// The program does not answer.
    #[error("the program at `{}` does not answer", .path.display())]
    Silent {
        /// Where its socket is.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory cannot be made or read.
    #[error("cannot use `{}`", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A program that tells what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pid: Option<u32>,
    path: PathBuf,
}

impl Program {
    /// The one whose socket is here: what `FAREXEC_MONITOR=PATH` named.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { pid: None, path: path.into() }
    }

    /// Its process id, if its socket is named by that.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Where its socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is doing now: a JSON object in one line, whose keys docs/OBSERVING.md explains.
    ///
    /// # Errors
    /// [`MonitorError::Silent`] if it has ended, or does not answer within two seconds.
    pub fn snapshot(&self) -> Result<String, MonitorError> {
        let ask = || {
            let mut socket = UnixStream::connect(&self.path)?;
            socket.set_read_timeout(Some(MONITOR_PATIENCE))?;
            let mut line = String::new();
            socket.read_to_string(&mut line)?;
            if line.ends_with('\n') {
                Ok(line.trim_end().to_owned())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        ask().map_err(|source| MonitorError::Silent { path: self.path.clone(), source })
    }
}

/// The programs of this user that tell what they are doing, by process id. Sockets of programs that were killed are removed.
///
/// ```
/// for program in farexec::monitor::programs()? {
///     println!("{:?}: {}", program.pid(), program.snapshot()?);
/// }
/// # Ok::<(), farexec::monitor::MonitorError>(())
/// ```
///
/// # Errors
/// [`MonitorError`] if the directory of the sockets cannot be trusted or read.
pub fn programs() -> Result<Vec<Program>, MonitorError> {
    let directory = directory();
    let unread = |source| MonitorError::Directory { path: directory.clone(), source };
    let mut found = Vec::new();
    if !directory.try_exists().map_err(unread)? {
        return Ok(found);
    }
    trust(&directory)?;
    for entry in std::fs::read_dir(&directory).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(pid) = name.strip_suffix(SUFFIX).and_then(|pid| pid.parse().ok()) else { continue };
        if !remove_stale(&path) {
            found.push(Program { pid: Some(pid), path });
        }
    }
    found.sort_unstable_by_key(|program| program.pid);
    Ok(found)
}

/// Whether this process tells what it is doing; the first question decides it, and opens the socket.
pub(super) fn is_open() -> bool {
    // In the child of a fork it may be held for ever, by a thread that the child does not have.
    let Some(mut opened) = OPENED.try_lock_for(MONITOR_PATIENCE) else { return false };
    let generation = sys::generation();
    if let Some(opened) = &*opened
        && opened.generation == generation
    {
        return opened.path.is_some();
    }
    let path =
        std::env::var_os(VARIABLE).filter(|wanted| !wanted.is_empty() && wanted != "0").and_then(|wanted| {
            // A program that cannot be watched is to run all the same.
            open(wanted).inspect_err(|error| tracing::warn!(%error, "this program cannot be watched")).ok()
        });
    let is_open = path.is_some();
    *opened = Some(Opened { generation, path });
    is_open
}

fn open(wanted: OsString) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let wanted_by_default = wanted == "1";
    let path = if wanted_by_default {
        // Those that were killed have left theirs.
        programs()?;
        made_directory()?.join(format!("{}{SUFFIX}", sys::process_id()))
    } else {
        std::path::absolute(wanted)?
    };
    if !remove_stale(&path) && path.symlink_metadata().is_ok() {
        return Err(format!("`{}` is there already", path.display()).into());
    }
    // Under its name it answers from the beginning: who found one that does not would take it for that of a killed program.
    let mut unnamed = path.clone().into_os_string();
    unnamed.push(format!(".{}", sys::process_id()));
    let listener = UnixListener::bind(&unnamed)
        .or_else(|error| match error.kind() {
            // Another program that ended just now has removed the directory.
            io::ErrorKind::NotFound if wanted_by_default => {
                made_directory().map_err(io::Error::other)?;
                UnixListener::bind(&unnamed)
            }
            _ => Err(error),
        })
        .map_err(|error| format!("cannot open a socket at `{}`: {error}", path.display()))?;
    std::fs::set_permissions(&unnamed, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&unnamed, &path)?;
    std::thread::Builder::new().name("farexec-monitor".into()).spawn(move || serve(&listener))?;
    sys::at_exit(remove_own);
    Ok(path)
}

fn serve(listener: &UnixListener) {
    loop {
        let Ok((mut socket, _)) = listener.accept() else {
            // Without descriptors there is nobody to tell; later there may be.
            std::thread::sleep(MONITOR_PATIENCE);
            continue;
        };
        if sys::peer_is_same_user(&socket) {
            // Who does not read is not waited for long, and who is gone need not be told.
            let _ = socket
                .set_write_timeout(Some(MONITOR_PATIENCE))
                .and_then(|()| socket.write_all(format!("{}\n", snapshot()).as_bytes()));
        }
    }
}

/// At the end of the process: the socket is this process's only if it did not get it by a fork.
extern "C" fn remove_own() {
    if let Some(opened) = OPENED.try_lock()
        && let Some(Opened { generation, path: Some(path) }) = &*opened
        && *generation == sys::generation()
    {
        let _ = std::fs::remove_file(path);
        // The last one takes the directory along. Another program may make its socket there just now, and finds a new directory.
        if path.parent() == Some(&directory()) {
            let _ = std::fs::remove_dir(directory());
        }
    }
}

/// Removes a socket that nobody listens at; returns whether it did.
fn remove_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        && std::fs::remove_file(path).is_ok()
}

/// Where the sockets are.
fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if Path::new(&runtime).is_dir() => Path::new(&runtime).join("farexec"),
        _ => std::env::temp_dir().join(format!("farexec-{}", sys::user_id())),
    }
}

/// The same, which is there then.
fn made_directory() -> Result<PathBuf, MonitorError> {
    let path = directory();
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(MonitorError::Directory { path, source });
        }
        _ => {}
    }
    trust(&path)?;
    Ok(path)
}

/// Fails if others than this user may use a directory.
fn trust(path: &Path) -> Result<(), MonitorError> {
    let unread = |source| MonitorError::Directory { path: path.into(), source };
    let metadata = std::fs::symlink_metadata(path).map_err(unread)?;
    if metadata.is_dir() && metadata.uid() == sys::user_id() && metadata.mode() & 0o077 == 0 {
        Ok(())
    } else {
        Err(MonitorError::Unsafe(path.into()))
    }
}
