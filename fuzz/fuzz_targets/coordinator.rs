//! A worker that sends any bytes, against a live coordinator: threads, reactor and all. It is reached through a socket, whose server is here
//! and proves that it knows the secret. Whatever comes, the coordinator has an answer or an error, and sees the end.

#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use farexec::{Group, ReceiveError, Wait, WaitError};
use farexec_proto::control::Hello;
use farexec_proto::encoding::dump;
use farexec_proto::frame::{self, Kind};
use farexec_proto::handshake::{MARKER, PROTOCOL_VERSION};
use farexec_proto::serde::AsItem;
use farexec_proto::{ChannelId, Encoding};
use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

const SECRET: &[u8] = b"only we know";

/// What no wait here comes near, unless it hangs.
const HANG: Duration = Duration::from_secs(30);

struct Player {
    spec: String,
    orders: Sender<Vec<u8>>,
}

fn player() -> &'static Player {
    static PLAYER: OnceLock<Player> = OnceLock::new();
    PLAYER.get_or_init(|| {
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
        std::thread::spawn(move || play(&listener, &received));
        Player { spec, orders }
    })
}

fn play(listener: &TcpListener, orders: &Receiver<Vec<u8>>) {
    for bytes in orders {
        let (mut connection, _) = listener.accept().unwrap();
        prove(&mut connection);
        // A coordinator that has seen enough reads no more.
        if connection.write_all(&bytes).is_ok() {
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

fn answer() -> Vec<u8> {
    let hello = Hello { protocol: PROTOCOL_VERSION, reads_message: true, ..Hello::default() };
    let mut payload = Vec::new();
    dump::encode(&AsItem(&hello), &mut payload).unwrap();
    let mut out = MARKER.to_vec();
    frame::write(&mut out, Kind::Hello, Encoding::Dump, ChannelId::GATEWAY, &payload);
    out
}

fuzz_target!(|input: (bool, &[u8])| {
    let (answers, rest) = input;
    let mut bytes = if answers { answer() } else { Vec::new() };
    bytes.extend_from_slice(rest);
    let player = player();
    player.orders.send(bytes).unwrap();
    let group = Group::new();
    if let Ok(gateway) = group.make_gateway(&*player.spec)
        && let Ok(channel) = gateway.remote_exec("pass")
    {
        loop {
            match channel.receive_payload(&Wait::at_most(HANG)) {
                Ok(payload) => drop(payload.value()),
                Err(ReceiveError::Wait(WaitError::Timeout)) => {
                    panic!("the end of the connection was not seen")
                }
                Err(_) => break,
            }
        }
    }
    group.terminate(HANG).unwrap();
    assert!(group.is_empty());
});
