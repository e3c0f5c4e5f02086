//! The extension module of the Python package, for workers that have none (`native=push`): whom it fits, and how it is sent.

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use farexec_proto::control::Hello;
use farexec_proto::frame::{self, Kind};
use farexec_proto::{ChannelId, Encoding};
use flate2::Compression;
use flate2::write::ZlibEncoder;

/// The oldest interpreter that it is built for: the stable ABI has a first version.
const OLDEST_PYTHON: [u32; 2] = [3, 10];

static PATH: OnceLock<PathBuf> = OnceLock::new();

/// Has the extension module in this file sent to workers whose specs say `native=push`, and that have none of their own. It is built for
/// the machine that this program runs on. The Python package offers its own; the first that is offered counts.
///
/// ```
/// farexec::offer_extension("/usr/lib/python3/dist-packages/farexec/_native.abi3.so");
/// // From now on, `ssh=HOST//native=push` sends it to a worker that it fits.
/// ```
pub fn offer_extension(path: impl Into<PathBuf>) {
    let _ = PATH.set(path.into());
}

/// Appends the answer to a worker that asks for the extension module: the module if it fits, else nothing, and the worker goes without.
pub(crate) fn write_for(hello: &Hello, out: &mut Vec<u8>) {
    let payload = if fits(hello) { compressed() } else { &[] };
    frame::write(out, Kind::Extension, Encoding::Message, ChannelId::GATEWAY, payload);
}

fn fits(hello: &Hello) -> bool {
    let platform = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let machine = if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        "arm64"
    } else {
        std::env::consts::ARCH
    };
    hello.implementation == "cpython"
        && hello.platform == platform
        && hello.machine == machine
        && hello.version.get(..2).is_some_and(|version| version >= &OLDEST_PYTHON)
}

/// The file, compressed; read once. Empty if there is none.
fn compressed() -> &'static [u8] {
    static COMPRESSED: OnceLock<Vec<u8>> = OnceLock::new();
    COMPRESSED.get_or_init(|| {
        let Some(path) = PATH.get() else { return Vec::new() };
        let read = || -> std::io::Result<Vec<u8>> {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&std::fs::read(path)?)?;
            encoder.finish()
        };
        read().unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the extension module cannot be read, and is not sent");
            Vec::new()
        })
    })
}
