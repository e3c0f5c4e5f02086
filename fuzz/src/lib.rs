//! A worker that sends what it is told to, at the other end of a socket from a live coordinator: threads, reactor and all. The server that
//! such a worker is behind is here, and proves that it knows the secret.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use farexec::{Gateway, Group, StartError};
use farexec_proto::control::Hello;
use farexec_proto::encoding::dump;
use farexec_proto::frame::{self, Kind};
use farexec_proto::handshake::{MARKER, PROTOCOL_VERSION};
use farexec_proto::serde::AsItem;
use farexec_proto::{ChannelId, Encoding};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const SECRET: &[u8] = b"only we know";

/// What no wait here comes near, unless it hangs.
pub const HANG: Duration = Duration::from_secs(30);

/// What a worker sends.
pub struct Part {
    /// At once.
    pub first: Vec<u8>,
    /// What it waits for, in what the coordinator sends.
    pub cue: &'static [u8],
    /// Then, before it closes its side.
    pub then: Vec<u8>,
}

struct Player {
    spec: String,
    orders: Sender<Part>,
}

/// Has a coordinator start a worker that plays this part.
///
/// # Errors
/// [`StartError`], as in earnest.
pub fn play(group: &Group, part: Part) -> Result<Gateway, StartError> {
    static PLAYER: OnceLock<Player> = OnceLock::new();
    let player = PLAYER.get_or_init(|| {
        // A file without a name leaves nothing behind.
        let path = std::env::temp_dir().join(format!("farexec-fuzz-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let mut secret = options.read(true).write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        secret.write_all(SECRET).unwrap();
        let secret = format!("/proc/self/fd/{}", secret.into_raw_fd());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let spec = format!("socket={}//secret_file={secret}", listener.local_addr().unwrap());
        let (orders, received) = channel();
        std::thread::spawn(move || perform(&listener, &received));
        Player { spec, orders }
    });
    player.orders.send(part).unwrap();
    group.make_gateway(&*player.spec)
}

fn perform(listener: &TcpListener, orders: &Receiver<Part>) {
    for part in orders {
        let (mut connection, _) = listener.accept().unwrap();
        prove(&mut connection);
        // A coordinator that has seen enough reads no more.
        if connection.write_all(&part.first).is_ok()
            && hears(&mut connection, part.cue)
            && connection.write_all(&part.then).is_ok()
        {
            let _ = connection.shutdown(Shutdown::Write);
        }
        let _ = std::io::copy(&mut connection, &mut std::io::sink());
    }
}

fn prove(connection: &mut TcpStream) {
    let nonce = [7; 32];
    connection.write_all(&[b"FAREXEC-SOCKET 1", &nonce[..]].concat()).unwrap();
    let mut proof = [0; 64];
    connection.read_exact(&mut proof).unwrap();
    let mut prover = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    prover.update(&[b"server", &proof[..32], &nonce[..]].concat());
    connection.write_all(&prover.finalize().into_bytes()).unwrap();
}

fn hears(connection: &mut TcpStream, cue: &[u8]) -> bool {
    let (mut heard, mut chunk) = (Vec::new(), [0; 65536]);
    while !cue.is_empty() && !heard.windows(cue.len()).any(|part| part == cue) {
        match connection.read(&mut chunk) {
            Ok(0) | Err(_) => return false,
            Ok(count) => heard.extend_from_slice(&chunk[..count]),
        }
    }
    true
}

/// How a worker answers that is one.
#[must_use]
pub fn answer() -> Vec<u8> {
    let hello = Hello { protocol: PROTOCOL_VERSION, reads_message: true, ..Hello::default() };
    let mut payload = Vec::new();
    dump::encode(&AsItem(&hello), &mut payload).unwrap();
    let mut out = MARKER.to_vec();
    frame::write(&mut out, Kind::Hello, Encoding::Dump, ChannelId::GATEWAY, &payload);
    out
}
