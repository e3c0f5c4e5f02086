//! Starts a process without a fork of this one: until it executes its program, it runs in this one's memory, which need not be mapped twice.
//!
//! It does what `sys/spawn.rs` does, and no more than the C library offers; whatever else is asked for is that file's.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use super::spawn::{FIRST, Start};

/// What the C library cancels threads with.
const OWN_SIGNAL: u32 = 32;

/// Starts the leader of a process group with these standard descriptors and the one it is to have besides. `None` if that needs a fork.
#[allow(unsafe_code, reason = "posix_spawn has no safe interface that passes a descriptor on")]
pub(super) fn spawn(
    command: &Command,
    standard: &[OwnedFd; 3],
    start: &Start,
) -> Option<io::Result<libc::pid_t>> {
    let program = command.get_program();
    let needs_fork = start.asks
        || start.nice != 0
        || !start.has_its_environment
        || command.get_current_dir().is_some()
        || !program.as_bytes().contains(&b'/')
        || standard.iter().any(|fd| fd.as_raw_fd() < FIRST);
    if needs_fork {
        return None;
    }
    let left = left_by_others()?;
    let words = strings(std::iter::once(program).chain(command.get_args()).map(OsStr::to_owned));
    let variables = strings(command.get_envs().filter_map(|(name, value)| {
        let mut variable = name.to_owned();
        variable.push("=");
        variable.push(value?);
        Some(variable)
    }));
    let (words, variables) = match (words, variables) {
        (Ok(words), Ok(variables)) => (words, variables),
        (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
    };
    let pointers = |strings: &[CString]| -> Vec<*mut libc::c_char> {
        strings.iter().map(|text| text.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
    };
    let (arguments, environment) = (pointers(&words), pointers(&variables));
    let mut child = 0;
    let mut status = 0;
    let mut is_told = false;
    // The first failure is the result, and nothing is started after one.
    let mut check = |result| {
        if status == 0 {
            status = result;
        }
        status == 0
    };
    let mut actions = std::mem::MaybeUninit::uninit();
    let mut attributes = std::mem::MaybeUninit::uninit();
    let mut signals = std::mem::MaybeUninit::uninit();
    // SAFETY: the objects are set up before anything else is done with them, and taken apart at the end; the strings and the descriptors
    // outlive the call.
    unsafe {
        libc::posix_spawn_file_actions_init(actions.as_mut_ptr());
        libc::posix_spawnattr_init(attributes.as_mut_ptr());
        let (actions, attributes, signals) =
            (actions.as_mut_ptr(), attributes.as_mut_ptr(), signals.as_mut_ptr());
        for (fd, number) in standard.iter().zip(0..) {
            check(libc::posix_spawn_file_actions_adddup2(actions, fd.as_raw_fd(), number));
        }
        for number in left {
            check(libc::posix_spawn_file_actions_addclose(actions, number));
        }
        if let Some(passed) = &start.passed {
            // There and back, which leaves it open under its number; what else has the number in between is closed by the exec anyway.
            let number = passed.fd.as_raw_fd();
            check(libc::posix_spawn_file_actions_adddup2(actions, number, FIRST));
            check(libc::posix_spawn_file_actions_adddup2(actions, FIRST, number));
            check(libc::posix_spawn_file_actions_addclose(actions, FIRST));
        }
        // The library takes no number above a limit that was lowered after the descriptor was opened.
        is_told |= check(0);
        libc::sigemptyset(signals);
        check(libc::posix_spawnattr_setsigmask(attributes, signals));
        libc::sigaddset(signals, libc::SIGPIPE);
        // The library's own signal it would have ignored, which a program keeps; and it adds it to no set, so that is done by hand.
        *signals.cast::<libc::c_ulong>() |= 1 << (OWN_SIGNAL - 1);
        check(libc::posix_spawnattr_setsigdefault(attributes, signals));
        check(libc::posix_spawnattr_setpgroup(attributes, 0));
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETPGROUP;
        #[allow(clippy::cast_possible_truncation, reason = "the interface is older than its constants")]
        if check(libc::posix_spawnattr_setflags(attributes, flags as libc::c_short)) {
            let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
            check(libc::posix_spawn(
                &raw mut child,
                words[0].as_ptr(),
                actions,
                attributes,
                arguments,
                environment,
            ));
        }
        libc::posix_spawn_file_actions_destroy(actions);
        libc::posix_spawnattr_destroy(attributes);
    }
    match status {
        0 => Some(Ok(child)),
        _ if !is_told => None,
        // A script that does not say what runs it: a shell does, which is tried only after a fork.
        libc::ENOEXEC => None,
        _ => Some(Err(io::Error::from_raw_os_error(status))),
    }
}

fn strings(texts: impl Iterator<Item = OsString>) -> io::Result<Vec<CString>> {
    let text = |text: OsString| CString::new(text.into_encoded_bytes());
    texts
        .map(text)
        .collect::<Result<_, _>>()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// The descriptors that a child would get though nobody meant them for it: see `close_the_rest_on_exec`. `None` if that cannot be told.
fn left_by_others() -> Option<Vec<libc::c_int>> {
    let numbers = std::fs::read_dir("/proc/self/fd").ok()?;
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Some(numbers.filter(|&number| number >= FIRST && is_inherited(number)).collect())
}

#[allow(unsafe_code, reason = "the number may be anybody's")]
fn is_inherited(number: libc::c_int) -> bool {
    // SAFETY: a question; a number that is not open is an error without effect.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}
