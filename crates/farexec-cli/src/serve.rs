//! `farexec serve`: the socket server, which is a Python program of its own; this starts it.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use farexec::SOCKET_SERVER;

use crate::exit::{self, Failure};

/// Lets coordinators that know a secret start workers on this machine, at `socket=HOST:PORT`
///
/// It listens on loopback unless a host is named. The secret is in the file that --secret-file names, or in the variable FAREXEC_SECRET; without
/// either one is made and printed. The connection is encrypted if there is a certificate, which coordinators are to expect by `tls=`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farexec serve :8888 --secret-file secret
  farexec status socket=127.0.0.1:8888//secret_file=secret
  farexec serve --make-certificate --tls-cert cert.pem --tls-key key.pem
  farexec serve 0.0.0.0:8888 --secret-file secret --tls-cert cert.pem --tls-key key.pem
  farexec status socket=host:8888//secret_file=secret//tls=cert.pem")]
pub(crate) struct Arguments {
    /// Where to listen; without HOST on loopback, with the port 0 at one that is free
    #[arg(value_name = "[HOST]:PORT", default_value = ":8888", value_parser = address)]
    address: String,

    /// A file with the secret
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// The certificate that coordinators are to expect, in the form PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Its key, in a file of mode 600
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Make both of these, by the program openssl, print what tls= is to be, and end
    #[arg(long, requires = "tls_cert")]
    make_certificate: bool,

    /// Serve one coordinator and end
    #[arg(long)]
    once: bool,

    /// The interpreter that serves, and that workers run in
    #[arg(long, value_name = "COMMAND")]
    python: Option<String>,

    /// Show the command; start nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("write [HOST]:PORT".into()),
    }
}

/// Becomes the server: what ends this process ends it.
pub(crate) fn serve(arguments: &Arguments, python: &str) -> Result<u8, Failure> {
    let named = arguments.python.as_deref().map(shell_words::split).transpose();
    let words = named.map_err(|error| Failure::mistake(format!("--python: {error}")))?;
    let words = words.unwrap_or_else(|| vec![python.to_owned()]);
    let Some((program, first)) = words.split_first() else {
        return Err(Failure::mistake("--python: name an interpreter"));
    };
    if let Some(path) = &arguments.secret_file {
        let secret = std::fs::read(path);
        let secret = secret.map_err(|error| {
            Failure::mistake(format!("cannot read the secret in `{}`: {error}", path.display()))
        })?;
        if secret.trim_ascii().is_empty() {
            return Err(Failure::mistake(format!("`{}` has no secret in it", path.display())));
        }
    }
    let mut command = Command::new(program);
    // The program itself comes by standard input, which the server needs for nothing else.
    command.args(first).arg("-").arg(&arguments.address);
    for (name, file) in [
        ("--secret-file", &arguments.secret_file),
        ("--tls-cert", &arguments.tls_cert),
        ("--tls-key", &arguments.tls_key),
    ] {
        command.args(file.iter().flat_map(|file| [OsStr::new(name), file.as_os_str()]));
    }
    for (name, is_set) in [("--make-certificate", arguments.make_certificate), ("--once", arguments.once)] {
        command.args(is_set.then_some(name));
    }
    if arguments.dry_run {
        let words = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy());
        let line = shell_words::join(words.collect::<Vec<_>>());
        anstream::println!("{line} < socketserver.py");
        return Ok(exit::DONE);
    }
    command.stdin(program_text().map_err(|error| Failure::new(exit::FAILED, error))?);
    let error = command.exec();
    Err(Failure::new(
        exit::NOT_STARTED,
        format!("cannot run `{program}`: {error}; name an interpreter by --python"),
    ))
}

fn program_text() -> io::Result<Stdio> {
    let (text, mut writer) = io::pipe()?;
    // A pipe takes all of it before anybody reads: it is a few KiB.
    writer.write_all(SOCKET_SERVER.as_bytes())?;
    Ok(text.into())
}
