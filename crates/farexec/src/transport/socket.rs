//! Workers behind a socket server. Both sides prove that they know a secret before anything else goes over the connection: section 7 of
//! `docs/PROTOCOL.md`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use farexec_proto::control::Start;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Order, Starting, Surroundings, far_start, open};
use crate::bootstrap;
use crate::channel::Channel;
use crate::error::{HostFailure, StartError};
use crate::gateway::Gateway;
use crate::link::{Link, Pipes};
use crate::source::Source;
use crate::spec::SpecError;

/// How long connecting to the server, and proving the secret, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server begins with.
const MAGIC: &[u8; 16] = b"FAREXEC-SOCKET 1";

const NONCE: usize = 32;

/// Where the secret is if no file is named.
const SECRET_VARIABLE: &str = "FAREXEC_SECRET";

/// The text of the stand-alone socket server: a Python program, which needs nothing but the standard library.
pub const SOCKET_SERVER: &str = include_str!("../socketserver.py");

pub(super) fn start(
    order: &Order<'_>,
    address: Option<&str>,
    surroundings: &Surroundings<'_>,
) -> Result<Starting, StartError> {
    check(order, address)?;
    // The server gives up when its channel is closed before somebody came: that is held until we are connected.
    let (address, secret, _server) = match &order.spec.installvia {
        Some(id) => install(&(surroundings.gateway)(id)?, address, surroundings)?,
        None => (address.unwrap_or_default().to_owned(), secret(order.spec.secret_file.as_deref())?, None),
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
    let connection = connect(&address, secret.as_bytes()).map_err(failed)?;
    let pipes = Pipes { input: OwnedFd::from(connection.try_clone()?), output: connection.into() };
    let link = Link::new(order.id, pipes, None)?;
    let env: BTreeMap<String, String> = order.spec.env.iter().cloned().collect();
    open(&link, &bootstrap::plain(), &Start { env, ..far_start(order)? })?;
    Ok(Starting { link, command: shown, address: Some(address), interpreter: None })
}

fn check(order: &Order<'_>, address: Option<&str>) -> Result<(), StartError> {
    let Some(address) = address else { return Ok(()) };
    match address.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(StartError::Spec(SpecError::BadValue {
            key: "socket".into(),
            value: address.into(),
            spec: order.spec.to_string(),
            reason: "needs an address: host:port".into(),
        })),
    }
}

fn secret(file: Option<&str>) -> Result<String, StartError> {
    if let Some(path) = file {
        let read = std::fs::read_to_string(path);
        return read.map(|text| text.trim().to_owned()).map_err(|error| {
            StartError::System(io::Error::new(error.kind(), format!("the secret in `{path}`: {error}")))
        });
    }
    std::env::var(SECRET_VARIABLE).map_err(|_| {
        let text = format!(
            "a socket server wants a secret: name its file by `secret_file=`, or set {SECRET_VARIABLE}"
        );
        StartError::System(io::Error::new(io::ErrorKind::InvalidInput, text))
    })
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

fn connect(address: &str, secret: &[u8]) -> io::Result<TcpStream> {
    let unknown = |error: io::Error| io::Error::new(io::ErrorKind::NotFound, error.to_string());
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs().map_err(unknown)? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(mut connection) => {
                connection.set_nodelay(true)?;
                connection.set_read_timeout(Some(CONNECT_TIMEOUT))?;
                prove_each_other(&mut connection, secret)?;
                connection.set_read_timeout(None)?;
                return Ok(connection);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn prove_each_other(connection: &mut TcpStream, secret: &[u8]) -> io::Result<()> {
    let mut greeting = [0; MAGIC.len() + NONCE];
    connection.read_exact(&mut greeting)?;
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
    let refused = |_| io::Error::new(io::ErrorKind::PermissionDenied, "the server refused our secret");
    connection.read_exact(&mut answer).map_err(refused)?;
    prover(secret, b"server", &ours, theirs)
        .verify_slice(&answer)
        .map_err(|_| io::Error::new(io::ErrorKind::PermissionDenied, "the server does not know our secret"))
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
