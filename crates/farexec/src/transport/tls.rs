//! TLS to a socket server, where the spec asks for it (`tls=`).
//!
//! Whom to trust is said by a *pin*: the server's certificate itself, in a file, or its fingerprint. Nothing that is ours, the proof that
//! we know the secret included, is sent before the server has shown that it holds the key of that certificate, and the certificate is valid today.
//!
//! Once both sides trust each other, a [`Tunnel`] moves bytes between the connection and a pair of sockets, one of which is the gateway's,
//! so that nothing else knows of TLS. It runs in the reactor.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::socket::{self, Stream};
use crate::limits::{READ_CHUNK, SEND_HIGH_WATER};
use crate::link::Link;
use crate::outbox::Outbox;
use crate::reactor::{Reactor, Source};
use crate::spec::FINGERPRINT_PREFIX;
use crate::sys::{self, Interest, Transfer};

/// How long a side is not read while the other takes nothing.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a server has to take what was sent last, and to close its side.
const LINGERS: Duration = Duration::from_secs(5);

/// Makes sure that the server is the pinned one.
pub(super) fn greet(socket: TcpStream, pin: Pin, deadline: Instant) -> io::Result<Tls> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { pin, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // Whoever listens there is told no name before it has shown who it is.
    config.enable_sni = false;
    let name = ServerName::try_from("farexec").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut tls = Tls { connection, socket };
    while tls.connection.is_handshaking() {
        tls.write_out()?;
        if tls.connection.is_handshaking() && !tls.read_in(deadline)? {
            let text =
                "the server closed the connection instead of speaking TLS: was it started with --tls-cert?";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    tls.write_out()?;
    Ok(tls)
}

/// What the server's certificate is compared with.
#[derive(Debug)]
pub(super) enum Pin {
    Fingerprint(String),
    Certificates(Vec<CertificateDer<'static>>),
}

impl Pin {
    /// What a spec says of the certificate.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix(FINGERPRINT_PREFIX) {
            return Ok(Self::Fingerprint(digits.replace(':', "").to_lowercase()));
        }
        let bytes = std::fs::read(text).map_err(|error| error.to_string())?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(found) if found.is_empty() => Err("the file has no certificate in the form PEM".into()),
            Ok(found) => Ok(Self::Certificates(found)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn is(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::Fingerprint(known) => *known == fingerprint(certificate),
            Self::Certificates(known) => known.contains(certificate),
        }
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.pin.is(certificate) {
            let shown = fingerprint(certificate);
            return Err(Error::General(format!(
                "the server's certificate, {FINGERPRINT_PREFIX}{shown}, is not the one that `tls=` names"
            )));
        }
        check_time(certificate, now, &self.provider)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Refuses a certificate that is not valid today. The library looks at that first, and only that part of its verdict matters: whom to trust is
/// the pin's business, and what it thinks of a certificate that signed itself is not.
fn check_time(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned())?;
    let algorithms = provider.signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate)?,
        &roots,
        &[],
        now,
        algorithms,
    ) {
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Err(Error::General("the server's certificate has expired".into())),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Err(Error::General("the server's certificate is not valid yet".into())),
        _ => Ok(()),
    }
}

/// A connection whose server is the pinned one.
pub(super) struct Tls {
    connection: ClientConnection,
    socket: TcpStream,
}

impl Tls {
    fn write_out(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Reads once. Returns whether anything can follow.
    fn read_in(&mut self, deadline: Instant) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let count = socket::read_before(&mut self.socket, &mut bytes, deadline)?;
        let mut arrived = &bytes[..count];
        while !arrived.is_empty() {
            self.connection.read_tls(&mut arrived)?;
            if let Err(error) = self.connection.process_new_packets() {
                // The server is told why, if it listens.
                let _ = self.write_out();
                return Err(failure(&error));
            }
        }
        Ok(count > 0)
    }

    /// The gateway's end of what this connection carries from now on.
    pub(super) fn into_pipe(self) -> io::Result<(OwnedFd, Tunnel)> {
        let (ours, theirs) = sys::socket_pair()?;
        Ok((ours, Tunnel { tls: self, inner: theirs }))
    }
}

fn failure(error: &Error) -> io::Error {
    match error {
        Error::General(text) => io::Error::new(io::ErrorKind::PermissionDenied, text.clone()),
        Error::InvalidMessage(_) => {
            io::Error::new(io::ErrorKind::InvalidData, "what listens there does not speak TLS")
        }
        _ => io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}")),
    }
}

impl Stream for Tls {
    fn read_some(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.read_in(deadline)? {
                        return Ok(0);
                    }
                }
                result => return result,
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.writer().write_all(bytes)?;
        self.write_out()
    }
}

/// A connection and the other end of the gateway's.
pub(super) struct Tunnel {
    tls: Tls,
    inner: OwnedFd,
}

impl Tunnel {
    /// Has the reactor move bytes between the two until either ends. Returns the connection, for as long as it is open.
    pub(super) fn open(self, link: &Arc<Link>) -> io::Result<Weak<OwnedFd>> {
        let reactor = Arc::clone(link.reactor());
        let outer = OwnedFd::from(self.tls.socket);
        let to_server = Arc::new(Outbox::new(outer.try_clone()?, SEND_HIGH_WATER)?);
        let to_link = Arc::new(Outbox::new(self.inner.try_clone()?, SEND_HIGH_WATER)?);
        to_server.register(&reactor)?;
        to_link.register(&reactor)?;
        let mut connection = self.tls.connection;
        // What it takes is written out, or queued, at once.
        connection.set_buffer_limit(None);
        let flow = Arc::new(Flow {
            connection: Mutex::new(connection),
            outer: Arc::new(outer),
            inner: Arc::new(self.inner),
            to_server,
            to_link,
            outer_key: Mutex::default(),
            inner_key: Mutex::default(),
            link: Arc::downgrade(link),
        });
        let source = FromServer(Arc::clone(&flow));
        let outer = reactor.add(Arc::clone(&flow.outer), Interest::Nothing, |_| Arc::new(source))?;
        *flow.outer_key.lock() = Some(outer);
        let source = FromLink(Arc::clone(&flow));
        let inner = reactor.add(Arc::clone(&flow.inner), Interest::Nothing, |_| Arc::new(source))?;
        *flow.inner_key.lock() = Some(inner);
        // What came together with the proof is in the connection already.
        flow.pass_on(&reactor);
        reactor.rearm(outer, Interest::Readable);
        reactor.rearm(inner, Interest::Readable);
        Ok(Arc::downgrade(&flow.outer))
    }
}

struct Flow {
    connection: Mutex<ClientConnection>,
    outer: Arc<OwnedFd>,
    inner: Arc<OwnedFd>,
    to_server: Arc<Outbox>,
    to_link: Arc<Outbox>,
    /// What the reactor knows either side by, until it has ended.
    outer_key: Mutex<Option<usize>>,
    inner_key: Mutex<Option<usize>>,
    link: Weak<Link>,
}

impl Flow {
    /// Hands over what was decrypted, and sends what the connection has to say of its own.
    fn pass_on(&self, reactor: &Reactor) -> bool {
        let mut connection = self.connection.lock();
        let mut bytes = Vec::new();
        // `WouldBlock` is the end of what there is for now.
        let has_ended = connection.reader().read_to_end(&mut bytes).is_ok();
        let taken = bytes.is_empty() || self.to_link.send(&bytes, reactor).is_ok();
        self.write_out(&mut connection, reactor) && taken && !has_ended
    }

    fn write_out(&self, connection: &mut ClientConnection, reactor: &Reactor) -> bool {
        let mut bytes = Vec::new();
        while connection.wants_write() {
            if connection.write_tls(&mut bytes).is_err() {
                return false;
            }
        }
        bytes.is_empty() || self.to_server.send(&bytes, reactor).is_ok()
    }

    fn rearm_when_taken(&self, key: &Mutex<Option<usize>>, outbox: &Outbox, reactor: &Arc<Reactor>) {
        let Some(key) = *key.lock() else { return };
        if outbox.is_above_high_water() {
            reactor.at(Instant::now() + PAUSE, move |reactor| reactor.rearm(key, Interest::Readable));
        } else {
            reactor.rearm(key, Interest::Readable);
        }
    }

    /// The server's side has ended. What came before is read before the end is; then the gateway closes its own side.
    fn outer_ended(&self, why: Option<String>, reactor: &Reactor) {
        if let (Some(why), Some(link)) = (why, self.link.upgrade()) {
            link.explain_end(why);
        }
        self.to_link.end_when_empty();
        self.to_server.end(reactor);
        remove(&self.outer_key, reactor);
    }

    /// The gateway is gone. What it sent goes out, and the server has a while to close its own side.
    fn inner_ended(self: &Arc<Self>, reactor: &Reactor) {
        let mut connection = self.connection.lock();
        connection.send_close_notify();
        self.write_out(&mut connection, reactor);
        drop(connection);
        self.to_server.end_when_empty();
        self.to_link.end(reactor);
        remove(&self.inner_key, reactor);
        let flow = Arc::clone(self);
        reactor.at(Instant::now() + LINGERS, move |reactor| flow.outer_ended(None, reactor));
    }
}

fn remove(key: &Mutex<Option<usize>>, reactor: &Reactor) {
    let key = key.lock().take();
    if let Some(key) = key {
        reactor.remove(key);
    }
}

/// The reactor's view of the connection.
struct FromServer(Arc<Flow>);

impl Source for FromServer {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        let flow = &self.0;
        let mut chunk = vec![0; READ_CHUNK];
        let count = match sys::read(flow.outer.as_fd(), &mut chunk) {
            Ok(Transfer::Bytes(count)) => count,
            Ok(Transfer::WouldBlock) => 0,
            Ok(Transfer::Ended) => return flow.outer_ended(None, reactor),
            Err(error) => return flow.outer_ended(Some(error.to_string()), reactor),
        };
        let mut arrived = &chunk[..count];
        while !arrived.is_empty() {
            let mut connection = flow.connection.lock();
            let read = connection.read_tls(&mut arrived).map_err(|error| error.to_string());
            let result =
                read.and_then(|_| connection.process_new_packets().map_err(|error| error.to_string()));
            drop(connection);
            // Before an error is told, what came before it is handed over.
            let goes_on = flow.pass_on(reactor);
            match result {
                Ok(_) if goes_on => {}
                Ok(_) => return flow.outer_ended(None, reactor),
                Err(why) => return flow.outer_ended(Some(format!("TLS: {why}")), reactor),
            }
        }
        flow.rearm_when_taken(&flow.outer_key, &flow.to_link, reactor);
    }
}

/// The reactor's view of the gateway's side.
struct FromLink(Arc<Flow>);

impl Source for FromLink {
    fn ready(self: Arc<Self>, reactor: &Arc<Reactor>) {
        let flow = &self.0;
        let mut chunk = vec![0; READ_CHUNK];
        let count = match sys::read(flow.inner.as_fd(), &mut chunk) {
            Ok(Transfer::Bytes(count)) => count,
            Ok(Transfer::WouldBlock) => 0,
            Ok(Transfer::Ended) | Err(_) => return flow.inner_ended(reactor),
        };
        let mut connection = flow.connection.lock();
        let is_sent = connection.writer().write_all(&chunk[..count]).is_ok()
            && flow.write_out(&mut connection, reactor);
        drop(connection);
        if is_sent {
            flow.rearm_when_taken(&flow.inner_key, &flow.to_server, reactor);
        } else {
            flow.outer_ended(None, reactor);
            flow.rearm_when_taken(&flow.inner_key, &flow.to_server, reactor);
        }
    }
}
