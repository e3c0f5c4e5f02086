//! What a Python interpreter is started with, so that it becomes a worker with nothing installed. Section 1 of
//! `docs/PROTOCOL.md`.
//!
//! Compiling the worker takes an interpreter longer than starting. So it is asked for the code it compiled, and the next of its kind
//! gets that, besides the text, which counts if it turns out to be another after all.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use farexec_proto::control::{Compiled, Start};
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

/// What makes a template of it.
const TEMPLATE: &str = include_str!("template.py");

/// What the models gevent and eventlet add to it.
const GREENLETS: [&str; 2] = [include_str!("hubs.py"), include_str!("greenlets.py")];

/// What an interpreter reads first to become a worker.
pub(crate) type Stage1 = Arc<[u8]>;

/// What the interpreter reads after its start: stage 1, then START.
pub(crate) fn opening(stage_1: &[u8], start: &Start) -> Result<Vec<u8>, EncodeError> {
    let mut opening = stage_1.to_vec();
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

/// The worker for any interpreter.
pub(crate) fn plain() -> Stage1 {
    static PLAIN: OnceLock<Stage1> = OnceLock::new();
    let make = || joined(&[compressed(&[WORKER, "\nmain()\n"].concat())]);
    Arc::clone(PLAIN.get_or_init(make))
}

/// The worker for an interpreter on this machine, which says in its HELLO how it compiled it.
pub(crate) fn offering() -> Stage1 {
    static OFFERING: OnceLock<Stage1> = OnceLock::new();
    let source = r#"
import sys
code = compile(r(int(r(8))), "<farexec worker>", "exec")
external = sys.modules.get("_frozen_importlib_external")
if external:
    import marshal
    compiled = {"magic": external.MAGIC_NUMBER, "implementation": sys.implementation.name, "code": marshal.dumps(code)}
exec(code)
main()
"#;
    Arc::clone(OFFERING.get_or_init(|| joined(&[compressed(source), WORKER.into()])))
}

/// The worker for an interpreter that most probably reads this code.
pub(crate) fn compiled(worker: &Compiled) -> Stage1 {
    with_code(Some(worker), &[(&worker.code, WORKER)], "main()")
}

/// A template of workers, for an interpreter that most probably reads the code of the worker, and that of the template if it is known.
pub(crate) fn template(worker: Option<&Compiled>, template: &[u8]) -> Stage1 {
    let code = worker.map_or(&[][..], |worker| &worker.code);
    // A worker keeps the template: to take it apart would copy the memory that it is in.
    let entry = "template = Template()\nmain(*template.fork_workers())";
    with_code(worker, &[(code, WORKER), (template, TEMPLATE)], entry)
}

/// Files, compiled (if they are) by an interpreter of the kind of `kind`, and as text, and what is executed behind them.
fn with_code(kind: Option<&Compiled>, files: &[(&[u8], &str)], entry: &str) -> Stage1 {
    let unknown = Compiled::default();
    let Compiled { magic, implementation, .. } = kind.unwrap_or(&unknown);
    let magic: String = magic.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let name: String = implementation.chars().filter(char::is_ascii_alphanumeric).collect();
    let source = format!(
        r#"
import marshal, sys
magic = getattr(sys.modules.get("_frozen_importlib_external"), "MAGIC_NUMBER", None)
known = magic == b"{magic}" and sys.implementation.name == "{name}"
for file in range({}):
    file_code, file_text = r(int(r(8))), r(int(r(8)))
    exec(marshal.loads(file_code) if known and file_code else compile(file_text, "<farexec worker>", "exec"))
{entry}
"#,
        files.len()
    );
    let mut parts = vec![compressed(&source)];
    for (code, text) in files {
        parts.extend([code.to_vec(), text.as_bytes().to_vec()]);
    }
    joined(&parts)
}

/// Parts as stage 0, and what it executes, read them: eight digits of length before each.
fn joined(parts: &[Vec<u8>]) -> Stage1 {
    let mut stage = Vec::new();
    for part in parts {
        stage.extend_from_slice(format!("{:08}", part.len()).as_bytes());
        stage.extend_from_slice(part);
    }
    stage.into()
}

fn compressed(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // A Vec takes everything.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
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
