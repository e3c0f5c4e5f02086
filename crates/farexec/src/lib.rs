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
//!
//! # A first gateway
//! A [`Group`] makes gateways of specs, texts that say where the interpreter is: `popen` is one on this machine, `ssh=HOST` one behind the
//! system's ssh, `popen//python=pypy3` another interpreter ([`Spec`] has all keys). [`Gateway::remote_exec`] executes a text there, or a
//! function in a file of yours ([`Source`]), and returns the channel that the code has as `channel`.
//!
//! ```
//! use farexec::{Group, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new(); // ends its workers when it is dropped; `terminate` says how they ended
//! let gateway = group.make_gateway("popen")?;
//! let channel = gateway.remote_exec(Source::text("channel.send([start] * times)").with("start", 7).with("times", 2))?;
//! assert_eq!(channel.receive::<Vec<u8>>()?, [7, 7]);
//! # Ok(())
//! # }
//! ```
//!
//! # Items
//! What goes over a [`Channel`] is whatever serde can write and read: your own types, checked as they arrive. Where the type is known only at
//! run time, or is one that Rust lacks (big integers, dicts with keys of any kind, sets), there is [`Value`].
//!
//! ```
//! use farexec::{Group, Value};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Answer {
//!     words: Vec<String>,
//!     count: usize,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! let gateway = group.make_gateway("popen")?;
//! let channel = gateway.remote_exec(
//!     "
//!     for text in channel:
//!         channel.send({'words': text.split(), 'count': len(text)})
//!     channel.send(2 ** 100)
//!     ",
//! )?;
//! channel.send("far and wide")?;
//! channel.end_sending();
//! let answer: Answer = channel.receive()?;
//! assert_eq!((answer.words.len(), answer.count), (3, 12));
//! assert_eq!(channel.receive::<Value>()?.to_string(), "1267650600228229401496703205376");
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//! Each concern has an enum of its own: [`StartError`] while a gateway is made, [`SendError`] and [`ReceiveError`] at a channel, [`CallError`] at a
//! call. What was raised at the far end is a [`RemoteError`]: its type, message, frames, notes and causes, and Python's own text of them.
//! When a gateway has ended, its [`EndReason`] tells of the exit status or signal and the worker's last lines on standard error.
//!
//! ```
//! use farexec::{Group, ReceiveError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! let channel = group.make_gateway("popen")?.remote_exec("{}['missing']")?;
//! match channel.receive::<i64>() {
//!     Err(ReceiveError::Remote(error)) => {
//!         assert_eq!((error.type_name(), error.message()), ("KeyError", "'missing'"));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Waiting
//! Nothing waits for ever on a worker that is gone: what waits for it gets the reason. How long to wait for one that is there is said by a timeout
//! ([`Channel::receive_timeout`], [`Group::terminate`]) or by a [`Wait`], which can also be called away, by a Ctrl-C for instance.
//!
//! ```
//! use farexec::{Group, ReceiveError, Wait, WaitError};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! let channel = group.make_gateway("popen")?.remote_exec("channel.receive(); channel.send('done')")?;
//! let hasty = channel.receive_payload(&Wait::at_most(Duration::from_millis(1)));
//! assert!(matches!(hasty, Err(ReceiveError::Wait(WaitError::Timeout))));
//! channel.send("go on")?; // nothing was lost by it
//! assert_eq!(channel.receive::<String>()?, "done");
//! # Ok(())
//! # }
//! ```
//!
//! # Calls and maps
//! A function that workers can import, or that a text defines ([`Function`]), is called with [`Gateway::call`]; the result has the type that is
//! asked for. [`Gateway::allow_imports`] sends a worker the Python files that it misses. [`Group::map`] gives items to whichever worker has room, brings each result once, and replaces workers that die.
//!
//! ```
//! use farexec::{Function, Group, MapOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! group.make_gateways(["popen"; 2])?;
//! let root: f64 = group.gateways()[0].call("math:sqrt", &(2.25,))?;
//! assert_eq!(root, 1.5);
//!
//! let square = Function::text("def square(n): return n * n", "square");
//! let squares = group.map::<_, u64>(&square, 0_u64..10, MapOptions::default())?;
//! assert_eq!(squares.sum::<Result<u64, _>>()?, 285);
//! # Ok(())
//! # }
//! ```
//!
//! # Groups and queues
//! [`Group::remote_exec`] executes on all gateways and returns a [`MultiChannel`]. Its [`ReceiveQueue`] has the items of all its channels as they
//! arrive, each with the channel it came over, and tells when a channel ends.
//!
//! ```
//! use farexec::{Group, Item};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let group = Group::new();
//! group.make_gateways(["popen//id=a", "popen//id=b"])?;
//! let channels = group.remote_exec("import os; channel.send(os.getpid())")?;
//! let mut pids = 0;
//! for event in &channels.receive_queue()? {
//!     match event.item {
//!         Item::Data(payload) => {
//!             assert_eq!(Some(payload.decode()?), event.channel.gateway().pid());
//!             pids += 1;
//!         }
//!         Item::End(reason) => println!("{}: {reason}", event.channel.gateway().id()),
//!     }
//! }
//! assert_eq!(pids, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Futures
//! A call that blocks has a twin that is a future, with `_async` behind its name. It needs no particular runtime: tokio, smol or an
//! executor of a few lines will do. A future that is dropped loses no item. [`Channel::stream`] and [`Channel::sink`] are a stream and a sink.
//!
//! ```
//! use farexec::Group;
//! use futures::TryStreamExt;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # futures::executor::block_on(async {
//! let group = Group::new();
//! let gateway = group.make_gateway_async("popen").await?;
//! let channel = gateway.remote_exec("for n in range(4): channel.send(n)")?;
//! let numbers: Vec<_> = channel.stream::<u8>().try_collect().await?;
//! assert_eq!(numbers, [0, 1, 2, 3]);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # Workers in Rust
//! A Rust program that hands a [`Registry`](worker::Registry) of functions to [`worker::serve`] is a worker itself, behind
//! `command=`. It is called, mapped and executed on by the names of its functions, in one group with interpreters.
//!
//! # Features
//! None is on by default, and nothing on this page needs one. `ndarray` has arrays of that crate as items (`ArrayItem`): they travel in one piece, and
//! are arrays of NumPy at a worker that has it, if `Gateway::use_numpy` asks for that. The crate links no interpreter and no runtime for futures.

#![deny(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "ndarray")]
mod array;
mod atomic;
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
mod imports;
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
mod timeline;
mod trace;
mod transport;
mod wait;
mod wakers;
mod watch;
mod work;
pub mod worker;

#[cfg(feature = "ndarray")]
pub use array::{ArrayItem, Element, NumpyError};
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
pub use imports::AllowError;
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
pub use timeline::TraceError;
pub use transport::SOCKET_SERVER;
pub use wait::{Wait, WaitError};
