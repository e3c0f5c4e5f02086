//! farexec runs Python anywhere: it starts interpreters, installs nothing there, and lets code at both ends talk over channels.
//!
//! ```
//! use farexec::{Group, Source};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! group.make_gateways(["popen"; 2])?; // started together
//! let channels = group.remote_exec("channel.send(channel.receive() + 1)")?;
//! channels.send_each(&41)?;
//! assert_eq!(channels.receive_each::<i64>()?, [42, 42]);
//! group.terminate(Duration::from_secs(1))?;
//! # Ok(())
//! # }
//! ```
//!
//! The words: a **gateway** is one connection to one **worker**, the process that executes; it carries any number of
//! **channels**, two-way streams of items; a **group** makes and ends gateways together; a **multichannel** is what one execution
//! on a whole group returns, and a **receive queue** is fed by all of its channels.

#![deny(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bootstrap;
mod call;
mod callback;
mod channel;
mod end;
mod error;
mod extension;
mod flow;
mod function;
mod futures;
mod gateway;
mod group;
mod inbox;
mod interpreter;
mod limits;
mod link;
mod map;
pub mod monitor;
mod multichannel;
mod outbox;
mod output;
mod pace;
mod payload;
mod reactor;
mod receive_queue;
mod rsync;
mod source;
mod spec;
mod supervisor;
mod sys;
mod template;
mod trace;
mod transport;
mod wait;
mod wakers;
mod watch;
pub mod worker;

pub use bootstrap::STAGE_0;
pub use call::{Call, CallError, RemoteFunction};
pub use channel::{Channel, ReceiveError, SendError};
pub use end::{Cause, ChannelEnd, EndReason, RemoteError};
pub use error::{ExecError, GatewayError, HostFailure, StartError};
pub use extension::offer_extension;
pub use farexec_proto as proto;
pub use farexec_proto::control::{Compiled, Frame, Hello, Status};
pub use farexec_proto::{ChannelId, Value};
pub use function::{Function, FunctionError};
pub use futures::{ChannelSink, ChannelStream, ResultStream};
pub use gateway::{Gateway, Termination};
pub use group::Group;
pub use interpreter::know_interpreter;
pub use map::{
    JournalError, Map, MapError, MapOptions, MapResult, Progress, ResultError, Results, TaskError,
    WorkerProgress,
};
pub use multichannel::MultiChannel;
pub use output::{OutputLine, OutputStream};
pub use payload::Payload;
pub use receive_queue::{AlreadyTaken, Item, QueueEvent, ReceiveQueue};
pub use rsync::{Failure, Observer, Rsync, RsyncError, RsyncEvent, RsyncReport, Stop, TargetReport};
pub use source::{Kwargs, Request, Source};
pub use spec::{ExecModel, Native, Output, Spec, SpecError, StartMode, Transport};
pub use transport::SOCKET_SERVER;
pub use wait::{Wait, WaitError};
