//! Workers that another gateway's worker starts, and whose connection it carries (`via=`).
//!
//! The relay executes `relay.py`, and its channel carries the bytes of the connection as they are: frames are not looked at on the way. Here
//! a [`Bridge`] moves them between that channel and a pair of sockets, one of which is the new gateway's connection, so that
//! nothing else knows of relays.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use farexec_proto::Value;
use parking_lot::Mutex;

use super::{Command, Order, Starting, far_start, open};
use crate::bootstrap;
use crate::channel::Channel;
use crate::end::ChannelEnd;
use crate::error::StartError;
use crate::gateway::Gateway;
use crate::inbox::{Delivery, Sink};
use crate::limits::{READ_CHUNK, SEND_HIGH_WATER};
use crate::link::{Link, Pipes};
use crate::outbox::Outbox;
use crate::reactor::{Reactor, Source};
use crate::source::Source as Code;
use crate::spec::Transport;
use crate::sys::{self, Interest, Transfer};

const RELAY: &str = include_str!("../relay.py");

/// How long a connection is not read whose relay is far behind.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) fn start(order: &Order<'_>, relay: &Gateway, far: Command) -> Result<Starting, StartError> {
    let spec = order.spec;
    // Of a process that the relay starts itself, it sets the environment; otherwise it is in the command.
    let variables: Vec<(Value, Value)> = match spec.transport {
        Transport::Popen => spec.env.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect(),
        _ => Vec::new(),
    };
    let command: Vec<Value> = far.words.iter().map(|word| word.as_str().into()).collect();
    let code = Code::text(RELAY).at("<farexec relay>", 1).call("relay").beside();
    let code = code.with("command", Value::List(command)).with("environment", Value::Dict(variables));
    let shown = format!("{} at {}", far.shown, relay.id());
    let failed =
        |error: &dyn std::fmt::Display| StartError::System(io::Error::other(format!("{shown}: {error}")));
    let channel = relay.remote_exec(code).map_err(|e| failed(&e))?;
    channel.reconfigure(false, false).map_err(|e| failed(&e))?;
    let (ours, theirs) = sys::socket_pair()?;
    let pipes = Pipes { input: ours.try_clone()?, output: ours };
    let link = Link::new(order.id, pipes, None)?;
    Bridge::build(theirs, channel, &link)?;
    open(&link, &bootstrap::plain(), &far_start(order)?)?;
    Ok(Starting { link, command: shown, address: None, interpreter: None })
}

/// Moves bytes between a relay's channel and a gateway's connection.
pub(crate) struct Bridge {
    socket: Arc<OwnedFd>,
    outbox: Arc<Outbox>,
    /// Held until either side has ended.
    channel: Mutex<Option<Channel>>,
    link: Weak<Link>,
    key: OnceLock<usize>,
    reactor: Arc<Reactor>,
}

impl Bridge {
    fn build(socket: OwnedFd, channel: Channel, link: &Arc<Link>) -> Result<(), StartError> {
        let reactor = Arc::clone(link.reactor());
        let outbox = Arc::new(Outbox::new(socket.try_clone()?, SEND_HIGH_WATER)?);
        outbox.register(&reactor)?;
        let bridge = Arc::new(Self {
            socket: Arc::new(socket),
            outbox,
            channel: Mutex::new(Some(channel.clone())),
            link: Arc::downgrade(link),
            key: OnceLock::new(),
            reactor: Arc::clone(&reactor),
        });
        let source = Arc::clone(&bridge);
        let key = reactor.add(Arc::clone(&bridge.socket), Interest::Nothing, move |_| source)?;
        let _ = bridge.key.set(key);
        channel.redirect(Sink::Bridge(Arc::clone(&bridge))).map_err(|e| io::Error::other(e.to_string()))?;
        reactor.rearm(key, Interest::Readable);
        Ok(())
    }

    /// What the relay sent. Called by whoever reads the relay's gateway, so it never waits.
    pub(crate) fn push(&self, delivery: Delivery) {
        let link = self.link.upgrade();
        match delivery {
            Delivery::Item(payload) => match (payload.value(), link) {
                (Ok(Value::Bytes(bytes)), _) => drop(self.outbox.send(&bytes, &self.reactor)),
                (Ok(Value::Int(code)), Some(link)) => {
                    link.set_far_exit(i32::try_from(code).unwrap_or(-1));
                }
                (Ok(Value::List(error)), Some(link)) => {
                    let text: Vec<_> = error.iter().skip(1).map(ToString::to_string).collect();
                    link.cut(text.join(" "));
                }
                _ => {}
            },
            Delivery::End(end) => {
                if let (Some(link), ChannelEnd::Gateway(reason)) = (&link, &end) {
                    link.cut(format!("its relay ended: {reason}"));
                }
                // What was sent before is read before the end is. The channel is let go of when the other side has seen it.
                self.outbox.end_when_empty();
            }
        }
    }

    fn end(&self, reactor: &Reactor) {
        if let Some(channel) = self.channel.lock().take() {
            channel.close();
        }
        self.outbox.end(reactor);
        if let Some(key) = self.key.get() {
            reactor.remove(*key);
        }
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").finish_non_exhaustive()
    }
}

impl Source for Bridge {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        let channel = self.channel.lock().clone();
        let Some(channel) = channel else { return self.end(reactor) };
        let mut chunk = vec![0; READ_CHUNK];
        let behind = match sys::read(self.socket.as_fd(), &mut chunk) {
            Ok(Transfer::Bytes(count)) => channel.start_sending(&Value::Bytes(chunk[..count].to_vec())),
            Ok(Transfer::WouldBlock) => Ok(false),
            Ok(Transfer::Ended) | Err(_) => return self.end(reactor),
        };
        match (behind, self.key.get()) {
            (Ok(false), Some(key)) => reactor.rearm(*key, Interest::Readable),
            (Ok(true), Some(&key)) => {
                reactor.at(Instant::now() + PAUSE, move |reactor| reactor.rearm(key, Interest::Readable));
            }
            _ => self.end(reactor),
        }
    }
}
