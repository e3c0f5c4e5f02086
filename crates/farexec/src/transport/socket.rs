//! Workers behind a socket server. Both sides prove that they know a secret before anything else goes over the connection, or over TLS on it
//! ([`tls`]): section 7 of `docs/PROTOCOL.md`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use farexec_proto::control::Start;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::keepalive::Connection;
use super::tls::{self, Pin, Tunnel};
use super::{Order, Starting, Surroundings, far_start, open, secret};
use crate::bootstrap;
use crate::channel::Channel;
use crate::error::{HostFailure, StartError};
use crate::gateway::Gateway;
use crate::link::{Link, Pipes};
use crate::source::Source;
use crate::spec::Spec;

/// How long connecting to the server, and proving the secret, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server begins with.
const MAGIC: &[u8; 16] = b"FAREXEC-SOCKET 1";

const NONCE: usize = 32;

/// The text of the stand-alone socket server: a Python program, which needs nothing but the standard library.
pub const SOCKET_SERVER: &str = include_str!("../socketserver.py");

pub(super) fn start(
    order: &Order<'_>,
    address: Option<&str>,
    surroundings: &Surroundings<'_>,
) -> Result<Starting, StartError> {
    check(order, address)?;
    let pin = match &order.spec.tls {
        Some(text) => Some(Pin::read(text).map_err(|reason| order.spec.bad("tls", text, &reason))?),
        None => None,
    };
    // The server gives up when its channel is closed before somebody came: that is held until we are connected.
    let (address, secret, _server) = match &order.spec.installvia {
        Some(id) => {
            install(&super::helper(order.spec, "installvia", id, surroundings)?, address, surroundings)?
        }
        None => (address.unwrap_or_default().to_owned(), secret::known_here(order.spec)?, None),
    };
    let shown = format!("a connection to {address}");
    let failed = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => HostFailure::Denied,
            io::ErrorKind::NotFound => HostFailure::Unknown,
            io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => HostFailure::Unreachable,
            _ => HostFailure::Other,
        };
        StartError::Host { kind, host: address.clone(), command: shown.clone(), said: error.to_string() }
    };
    let (pipe, tunnel, connection) = connect(&address, secret.as_bytes(), pin, order.spec).map_err(failed)?;
    let pipes = Pipes { input: pipe.try_clone()?, output: pipe };
    let link = Link::new(order.id, pipes, None)?;
    let socket = match tunnel {
        Some(tunnel) => tunnel.open(&link)?,
        None => link.connection(),
    };
    connection.watch(socket, &link);
    let env: BTreeMap<String, String> = order.spec.env.iter().cloned().collect();
    open(&link, &bootstrap::plain(), &Start { env, ..far_start(order)? })?;
    Ok(Starting { link, command: shown, address: Some(address), interpreter: None })
}

fn check(order: &Order<'_>, address: Option<&str>) -> Result<(), StartError> {
    let Some(address) = address else { return Ok(()) };
    match address.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(order.spec.bad("socket", address, &"needs an address: host:port").into()),
    }
}

/// Has a gateway's worker run a server for one connection. Returns its address and its secret.
fn install(
    gateway: &Gateway,
    address: Option<&str>,
    surroundings: &Surroundings<'_>,
) -> Result<(String, String, Option<Channel>), StartError> {
    let (host, port) = address.and_then(|address| address.rsplit_once(':')).unwrap_or(("127.0.0.1", "0"));
    let port: i64 = port.parse().unwrap_or(0);
    let source = Source::text(SOCKET_SERVER).at("<farexec socket server>", 1).call("serve_one").beside();
    let failed = |error: &dyn std::fmt::Display| {
        StartError::System(io::Error::other(format!("no socket server at {}: {error}", gateway.id())))
    };
    let channel =
        gateway.remote_exec(source.with("host", host).with("port", port)).map_err(|e| failed(&e))?;
    let payload = channel.receive_payload(&surroundings.wait).map_err(|e| failed(&e))?;
    let (port, secret): (u16, String) = payload.decode().map_err(|e| failed(&e))?;
    Ok((format!("{host}:{port}"), secret, Some(channel)))
}

/// What carries the gateway's bytes to a server that has proved itself, and what moves them on, if anything has to.
fn connect(
    address: &str,
    secret: &[u8],
    pin: Option<Pin>,
    spec: &Spec,
) -> io::Result<(OwnedFd, Option<Tunnel>, Connection)> {
    let mut socket = reach(address)?;
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    socket.set_nodelay(true)?;
    let connection = Connection::probe(&socket, spec)?;
    socket.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    if let Some(pin) = pin {
        let mut tls = tls::greet(socket, pin, deadline)?;
        prove_each_other(&mut tls, secret, deadline)?;
        let (pipe, tunnel) = tls.into_pipe()?;
        return Ok((pipe, Some(tunnel), connection));
    }
    prove_each_other(&mut socket, secret, deadline)?;
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    Ok((socket.into(), None, connection))
}

fn reach(address: &str) -> io::Result<TcpStream> {
    let unknown = |error: io::Error| io::Error::new(io::ErrorKind::NotFound, error.to_string());
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs().map_err(unknown)? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What the secret is proved over: the connection, or TLS on it.
pub(super) trait Stream {
    /// Reads what there is, once there is something; 0 at the end.
    fn read_some(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize>;
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn read_some(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        read_before(self, buffer, deadline)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }
}

/// Reads once, before a time that is the same for all reads: a server that sends byte by byte has no longer than others.
pub(super) fn read_before(socket: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text =
                format!("no proof within {} seconds that it knows our secret", CONNECT_TIMEOUT.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(buffer) {
            Err(error) if is_passing(&error) => {}
            result => return result,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn prove_each_other(connection: &mut dyn Stream, secret: &[u8], deadline: Instant) -> io::Result<()> {
    let mut greeting = [0; MAGIC.len() + NONCE];
    read_exactly(connection, &mut greeting, deadline).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(
            error.kind(),
            "the server closed the connection at once: too many are open that did not prove that they know its secret, or it speaks TLS (`tls=`)",
        ),
        _ => error,
    })?;
    let Some(theirs) = greeting.strip_prefix(MAGIC) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what listens there is no farexec socket server",
        ));
    };
    let mut ours = [0; NONCE];
    getrandom::fill(&mut ours).map_err(io::Error::other)?;
    let proof = prover(secret, b"coordinator", theirs, &ours).finalize().into_bytes();
    connection.write_all(&[&ours[..], &proof[..]].concat())?;
    let mut answer = [0; 32];
    read_exactly(connection, &mut answer, deadline).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => error,
        _ => io::Error::new(io::ErrorKind::PermissionDenied, "the server refused our secret"),
    })?;
    prover(secret, b"server", &ours, theirs)
        .verify_slice(&answer)
        .map_err(|_| io::Error::new(io::ErrorKind::PermissionDenied, "the server does not know our secret"))
}

fn read_exactly(connection: &mut dyn Stream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        match connection.read_some(buffer, deadline)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}

fn prover(secret: &[u8], who: &[u8], challenge: &[u8], own: &[u8]) -> Hmac<Sha256> {
    // A key may have any length.
    #[allow(clippy::unwrap_used, reason = "HMAC takes keys of every length (RFC 2104)")]
    let mut prover = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    prover.update(who);
    prover.update(challenge);
    prover.update(own);
    prover
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_server_starts_workers_with_our_stage_0() {
        let text: String = super::SOCKET_SERVER
            .lines()
            .filter_map(|line| line.trim().strip_prefix("r'")?.strip_suffix('\''))
            .collect();
        assert_eq!(text, crate::bootstrap::STAGE_0);
    }
}
