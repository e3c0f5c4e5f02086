//! The operating system: the only place that knows which one it is, and the only place with unsafe code.
//!
//! Descriptors, processes, and the poller that the reactor is built on. Everything above speaks in these terms.

mod files;
mod handover;
mod inherited;
mod poller;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod posix_spawn;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod reach;
mod ring;
#[cfg(unix)]
mod spawn;
mod this_process;
#[cfg(unix)]
mod unix;

use crate::atomic;
pub(crate) use files::*;
pub(crate) use inherited::{Inherited, inherited};
pub(crate) use poller::{Interest, Poller};
#[cfg(unix)]
pub(crate) use process::*;
#[cfg(unix)]
pub(crate) use reach::*;
pub(crate) use ring::{Place, RingReader, RingWriter, Rings, accept_rings, offer_rings};
#[cfg(unix)]
pub(crate) use spawn::*;
pub(crate) use this_process::*;
#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(not(unix))]
compile_error!("farexec runs on Unix so far; another system is a module beside sys/unix.rs");
