//! The command `farexec`: what the crate [`farexec`] does, for who has a shell and no program.
//!
//! [`main`] is the whole of it, so that the binary of this crate and the Python package's console script are the same command. A
//! subcommand is a module: its arguments, then what it does. What they share: `targets` (which workers), `code` (what they
//! execute), `json` (how items are written), `screen` (who writes where), `stop` (Ctrl-C), `exit` (what the shell is told).
//!
//! ```
//! let status = farexec_cli::main(["farexec", "status", "--dry-run", "popen"], "python3");
//! assert_eq!(status, 0);
//! ```

#![forbid(unsafe_code)]

mod code;
mod doctor;
mod entry;
mod exit;
mod generate;
mod hosts;
mod json;
mod map;
mod pattern;
mod plan;
mod progress;
mod rsync;
mod run;
mod screen;
mod serve;
mod status;
mod stop;
mod table;
mod targets;
mod top;

pub use entry::{command, main};
