//! What a Python interpreter is started with, so that it becomes a worker with nothing installed. Section 1 of
//! `docs/PROTOCOL.md`.

use std::io::Write;
use std::sync::OnceLock;

use farexec_proto::control::Start;
use farexec_proto::encoding::{EncodeError, dump};
use farexec_proto::frame::{self, Kind, PayloadTooLong};
use farexec_proto::{ChannelId, Encoding};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::spec::ExecModel;

/// The argument of `python -c`: reads stage 1 from its input and executes it. One line, no single quote, nothing a shell expands.
pub const STAGE_0: &str = concat!(
    r#"exec("import os,zlib\ndef r(n,b=b\"\"):\n while len(b)<n:\n  c=os.read(0,n-len(b))\n"#,
    r#"  if not c:os._exit(0)\n  b+=c\n return b\n"#,
    r#"exec(compile(zlib.decompress(r(int(r(8)))),\"<farexec worker>\",\"exec\"))",{"__name__":"farexec_worker"})"#
);

/// The zero-install worker.
const WORKER: &str = include_str!("worker.py");

/// What the models gevent and eventlet add to it.
const GREENLETS: [&str; 2] = [include_str!("hubs.py"), include_str!("greenlets.py")];

/// What makes the worker's text run.
const ENTRY: &str = "\nmain()\n";

/// What the interpreter reads after its start: stage 1, then START.
pub(crate) fn opening(start: &Start) -> Result<Vec<u8>, EncodeError> {
    let mut opening = stage_1().to_vec();
    // The wire has the encoding of START fixed, since nobody knows yet what the worker can read.
    let written = frame::write_with::<Failure>(&mut opening, Kind::Start, ChannelId::GATEWAY, |out| {
        dump::encode(&farexec_proto::serde::AsItem(start), out)?;
        Ok(Encoding::Dump)
    });
    match written {
        Err(Failure::Encode(error)) => Err(error),
        // START is as long as the spec it comes from.
        Err(Failure::TooLong) | Ok(()) => Ok(opening),
    }
}

/// What the worker is extended by for an execution model, if it is.
pub(crate) fn extension(model: ExecModel) -> Option<String> {
    matches!(model, ExecModel::Gevent | ExecModel::Eventlet).then(|| GREENLETS.concat())
}

enum Failure {
    Encode(EncodeError),
    TooLong,
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<PayloadTooLong> for Failure {
    fn from(_: PayloadTooLong) -> Self {
        Self::TooLong
    }
}

/// The worker as stage 0 wants it: eight digits of length, then compressed source. Made once.
fn stage_1() -> &'static [u8] {
    static STAGE_1: OnceLock<Vec<u8>> = OnceLock::new();
    STAGE_1.get_or_init(|| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        // A Vec takes everything.
        let _ = encoder.write_all(WORKER.as_bytes());
        let _ = encoder.write_all(ENTRY.as_bytes());
        let compressed = encoder.finish().unwrap_or_default();
        let mut stage = format!("{:08}", compressed.len()).into_bytes();
        stage.extend_from_slice(&compressed);
        stage
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_0_survives_a_shell() {
        assert!(!STAGE_0.contains(['\'', '\n', '$', '`', '!']));
    }

    #[test]
    fn stage_0_is_what_the_protocol_says() {
        let protocol = include_str!("../../../docs/PROTOCOL.md");
        let said = protocol.split("```").find(|block| block.starts_with("\nexec(")).unwrap_or_default();
        assert_eq!(STAGE_0, said.replace('\n', ""));
    }
}
