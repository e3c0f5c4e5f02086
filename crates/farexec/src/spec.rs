//! Specs: the text that says where and how a worker starts.
//!
//! `key=value//key=value`; a key without a value is true; `env:NAME=value` sets a variable. A spec is checked whole before anything is
//! started by it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where and how a worker starts.
///
/// ```
/// let spec: farexec::Spec = "popen//python=python3.12 -X dev//chdir=/tmp//env:LANG=C".parse()?;
/// assert_eq!(spec.chdir.as_deref(), Some("/tmp"));
/// assert_eq!(spec.env, [("LANG".to_owned(), "C".to_owned())]);
/// let error = "popen//chdri=/tmp".parse::<farexec::Spec>().unwrap_err();
/// assert_eq!(error.to_string(), "unknown key `chdri` in `popen//chdri=/tmp`: did you mean `chdir`?");
/// # Ok::<(), farexec::SpecError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spec {
    text: String,
    /// What the worker is reached by.
    pub transport: Transport,
    /// The gateway's name; given by the group if missing.
    pub id: Option<String>,
    /// The interpreter: a command with arguments, split as a shell splits words.
    pub python: Option<String>,
    /// The directory the worker starts in, made if missing.
    pub chdir: Option<String>,
    /// Added to the niceness of the worker's process.
    pub nice: Option<i32>,
    /// How long running executions have to end once the worker was asked to, before they are interrupted; five seconds if missing.
    pub grace: Option<Duration>,
    /// How long the worker's host may be out of reach before the gateway ends, in whole seconds from 4 to 86400; zero: nobody asks whether it is
    /// there. If missing, it is 60 seconds for sockets, and for `ssh` what its configuration says (`ServerAliveInterval`), or else 60 seconds too.
    pub keepalive: Option<Duration>,
    /// Environment variables for the worker's process.
    pub env: Vec<(String, String)>,
    /// How the worker executes; the group's choice if missing.
    pub execmodel: Option<ExecModel>,
    /// Whether importing at the worker leaves no `.pyc` files.
    pub dont_write_bytecode: bool,
    /// Whether the worker may be native; the variable `FAREXEC_NATIVE` says so if missing, and else it is where it can be.
    pub native: Option<Native>,
    /// Where the worker's standard output goes.
    pub stdout: Output,
    /// Where the worker's standard error goes.
    pub stderr: Output,
    /// Whether a worker on this machine is forked from a template; if missing, the variable `FAREXEC_START` decides, and then a template is taken.
    pub start: Option<StartMode>,
    /// Modules that are imported before anything is executed, by the template if there is one. If missing, what the variable
    /// `FAREXEC_PRELOAD` lists, for workers on this machine.
    pub preload: Option<Vec<String>>,
    /// Whether the worker has no threads but those of the code it executes.
    pub threads_none: bool,
    /// The gateway whose worker starts this one and carries its connection.
    pub via: Option<String>,
    /// The configuration file for `ssh`.
    pub ssh_config: Option<String>,
    /// The gateway whose worker runs the socket server that is connected to.
    pub installvia: Option<String>,
    /// The file with the secret that a socket server shares with those it serves.
    pub secret_file: Option<String>,
    /// What the certificate of a socket server that speaks TLS is compared with: `sha256:` and its fingerprint, or a file in the form PEM that
    /// has it. Without it the connection is not encrypted.
    pub tls: Option<String>,
    /// Every key and value as written, in order; `None` is a key without a value.
    pub items: Vec<(String, Option<String>)>,
}

/// What a worker is reached by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// A process on this machine.
    #[default]
    Popen,
    /// A program that runs an interpreter with its standard input and output: the words in front of the interpreter's own.
    Command(Vec<String>),
    /// `ssh` with these arguments, the host among them.
    Ssh(Vec<String>),
    /// `vagrant ssh` with the name of the machine and arguments for `ssh`.
    VagrantSsh(Vec<String>),
    /// A socket server at `host:port`; without an address only together with [`Spec::installvia`].
    Socket(Option<String>),
}

/// Whether a worker may be native: use the extension module of a farexec for its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Native {
    /// Where its interpreter can import one that fits.
    #[default]
    Auto,
    /// There, and where none is installed but the one that was offered here ([`offer_extension`](crate::offer_extension)) fits:
    /// it is sent.
    Push,
    /// Never.
    No,
}

impl FromStr for Native {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "push" => Ok(Self::Push),
            "no" => Ok(Self::No),
            _ => Err("take `auto`, `push` or `no`".into()),
        }
    }
}

/// How a worker executes what it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecModel {
    /// The first execution runs in the main thread, further ones at the same time in threads.
    #[default]
    Thread,
    /// One execution at a time, in the main thread; a second one at once is refused with an error.
    MainThreadOnly,
    /// Each execution is a greenlet of [gevent](https://www.gevent.org)'s, which has to be installed there.
    Gevent,
    /// Each execution is a greenlet of [eventlet](https://eventlet.readthedocs.io)'s, which has to be installed there.
    Eventlet,
}

impl ExecModel {
    /// The name in specs and on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::MainThreadOnly => "main_thread_only",
            Self::Gevent => "gevent",
            Self::Eventlet => "eventlet",
        }
    }
}

impl FromStr for ExecModel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "thread" => Ok(Self::Thread),
            "main_thread_only" => Ok(Self::MainThreadOnly),
            "gevent" => Ok(Self::Gevent),
            "eventlet" => Ok(Self::Eventlet),
            _ => {
                Err("is no execution model: take `thread`, `main_thread_only`, `gevent` or `eventlet`".into())
            }
        }
    }
}

/// How a worker on this machine comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMode {
    /// It is forked from a warm interpreter, where that is possible: Linux, and CPython from 3.7 on.
    Template,
    /// It is an interpreter that was started for it.
    Spawn,
}

impl FromStr for StartMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "template" => Ok(Self::Template),
            "spawn" => Ok(Self::Spawn),
            _ => Err("take `template` or `spawn`".into()),
        }
    }
}

/// Where an output of a worker goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Where the coordinator's own goes.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// To the group, line by line: see [`Group::set_output`](crate::Group::set_output).
    Forward,
}

/// What is wrong with a spec.
///
/// ```
/// use farexec::Spec;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let Err(error) = "popen//chdri=/tmp".parse::<Spec>() else { panic!() };
/// println!("{error}");
/// assert!(error.to_string().contains("chdri"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Nothing between two `//`, or nothing at all.
    #[error("empty part in spec `{spec}`: write key=value//key=value, for instance `popen//python=python3`")]
    Empty {
        /// The whole spec.
        spec: String,
    },
    /// A key that no spec has.
    #[error("unknown key `{key}` in `{spec}`{}", hint(.suggestion))]
    UnknownKey {
        /// The key.
        key: String,
        /// The whole spec.
        spec: String,
        /// A known key that looks like it.
        suggestion: Option<&'static str>,
    },
    /// A key that stands twice.
    #[error("duplicate key: `{key}` in `{spec}`")]
    DuplicateKey {
        /// The key.
        key: String,
        /// The whole spec.
        spec: String,
    },
    /// A value that its key cannot have.
    #[error("`{key}={value}` in `{spec}`: {reason}")]
    BadValue {
        /// The key.
        key: String,
        /// The value, empty if there was none.
        value: String,
        /// The whole spec.
        spec: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two transports in one spec.
    #[error("`{spec}` names two transports, `{first}` and `{second}`: a gateway has one")]
    TwoTransports {
        /// The whole spec.
        spec: String,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
}

fn hint(suggestion: &Option<&'static str>) -> String {
    match suggestion {
        Some(key) => format!(": did you mean `{key}`?"),
        None => {
            let known: Vec<_> = known_keys().collect();
            format!(": known keys are {}, env:NAME", known.join(", "))
        }
    }
}

/// Keys that say what a worker is reached by.
const TRANSPORTS: [&str; 10] =
    ["popen", "ssh", "vagrant_ssh", "socket", "command", "podman", "docker", "kubectl", "srun", "uv"];

/// Every other key a spec can have.
const KEYS: [&str; 20] = [
    "via",
    "id",
    "python",
    "execmodel",
    "chdir",
    "nice",
    "grace",
    "keepalive",
    "dont_write_bytecode",
    "ssh_config",
    "installvia",
    "secret_file",
    "tls",
    "native",
    "start",
    "preload",
    "threads",
    "stdout",
    "stderr",
    "syspath",
];

fn known_keys() -> impl Iterator<Item = &'static str> {
    TRANSPORTS.into_iter().chain(KEYS)
}

impl Spec {
    /// The text the spec was made from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Sets the interpreter: a command and its arguments.
    pub fn set_python<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.python = Some(shell_words::join(words));
    }

    /// The error of a value that its key cannot have.
    pub(crate) fn bad(&self, key: &str, value: &str, reason: &dyn fmt::Display) -> SpecError {
        SpecError::BadValue {
            key: key.into(),
            value: value.into(),
            spec: self.text.clone(),
            reason: reason.to_string(),
        }
    }

    /// What is written behind a key; empty if nothing is.
    pub(crate) fn value(&self, key: &str) -> &str {
        let found = self.items.iter().find(|(known, _)| known == key);
        found.and_then(|(_, value)| value.as_deref()).unwrap_or_default()
    }

    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), SpecError> {
        let text = value.unwrap_or_default();
        let bad = |reason: &str| SpecError::BadValue {
            key: key.into(),
            value: text.into(),
            spec: self.text.clone(),
            reason: reason.into(),
        };
        let words = || match shell_words::split(text) {
            Ok(words) if words.is_empty() => Err(bad("needs a value")),
            Ok(words) => Ok(words),
            Err(_) => Err(bad("has a quotation mark too few")),
        };
        let needed = || if text.is_empty() { Err(bad("needs a value")) } else { Ok(text.to_owned()) };
        if let Some(name) = key.strip_prefix("env:") {
            let Some(value) = value else { return Err(bad("an environment variable needs a value")) };
            if name.is_empty() || name.contains('\0') || value.contains('\0') {
                return Err(bad("an environment variable needs a name, and no NUL character"));
            }
            self.env.push((name.into(), value.into()));
            return Ok(());
        }
        match key {
            "popen" => {}
            "ssh" => self.transport = Transport::Ssh(words()?),
            "vagrant_ssh" => self.transport = Transport::VagrantSsh(words()?),
            "command" => self.transport = Transport::Command(words()?),
            "socket" if value.is_none() => self.transport = Transport::Socket(None),
            "socket" => self.transport = Transport::Socket(Some(needed()?)),
            "podman" | "docker" => self.prefix(&[key, "exec", "-i"], words()?, &[]),
            "kubectl" => self.prefix(&[key, "exec", "-i"], words()?, &["--"]),
            "srun" => {
                let words = if text.is_empty() { Vec::new() } else { words()? };
                self.prefix(&["srun", "-Q", "--unbuffered", "-n1"], words, &[]);
            }
            "uv" => {
                let mut arguments = Vec::new();
                for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                    let version = part
                        .strip_prefix("python")
                        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
                    match version {
                        Some(version) => arguments.extend(["--python".to_owned(), version.to_owned()]),
                        None => arguments.extend(["--with".to_owned(), part.to_owned()]),
                    }
                }
                self.prefix(&["uv", "run", "--quiet", "--no-project"], arguments, &["--"]);
                self.python.get_or_insert_with(|| "python".into());
            }
            "id" => self.id = Some(needed()?),
            "via" => self.via = Some(needed()?),
            "ssh_config" => self.ssh_config = Some(needed()?),
            "installvia" => self.installvia = Some(needed()?),
            "secret_file" => self.secret_file = Some(needed()?),
            "tls" => match text.strip_prefix(FINGERPRINT_PREFIX) {
                Some(digits) if !is_fingerprint(digits) => {
                    return Err(bad("needs 64 hexadecimal digits behind `sha256:`, or the name of a file"));
                }
                _ => self.tls = Some(needed()?),
            },
            "python" => {
                words()?;
                self.python = Some(text.into());
            }
            "chdir" => self.chdir = Some(needed()?),
            "grace" => {
                let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                self.grace = Some(seconds.ok_or_else(|| bad("is no number of seconds"))?);
            }
            "keepalive" => match text.parse() {
                Ok(seconds @ (0 | 4..=86_400)) => self.keepalive = Some(Duration::from_secs(seconds)),
                _ => {
                    return Err(bad(
                        "is no whole number of seconds from 4 to 86400, or 0 to ask no host whether it is there",
                    ));
                }
            },
            "nice" => self.nice = Some(text.parse().map_err(|_| bad("is no whole number"))?),
            "execmodel" => self.execmodel = Some(text.parse().map_err(|reason: String| bad(&reason))?),
            "native" => self.native = Some(text.parse().map_err(|reason: String| bad(&reason))?),
            "dont_write_bytecode" => self.dont_write_bytecode = value != Some("0"),
            "stdout" | "stderr" => {
                let output = match text {
                    "inherit" => Output::Inherit,
                    "null" => Output::Null,
                    "forward" => Output::Forward,
                    _ => return Err(bad("take `inherit`, `null` or `forward`")),
                };
                if key == "stdout" { self.stdout = output } else { self.stderr = output }
            }
            "start" => self.start = Some(text.parse().map_err(|reason: String| bad(&reason))?),
            "preload" => self.preload = Some(module_names(text).map_err(bad)?),
            "threads" if text == "none" => self.threads_none = true,
            "threads" => return Err(bad("take `none`, or leave it out")),
            _ if KEYS.contains(&key) => return Err(bad("this version does not have that yet")),
            _ => {
                let suggestion = known_keys().find(|known| is_close(known, key));
                return Err(SpecError::UnknownKey { key: key.into(), spec: self.text.clone(), suggestion });
            }
        }
        Ok(())
    }
}

impl Spec {
    fn prefix(&mut self, first: &[&str], words: Vec<String>, last: &[&str]) {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        self.transport = Transport::Command([owned(first), words, owned(last)].concat());
    }

    /// What no single key shows.
    fn check(&self) -> Result<(), SpecError> {
        let bad = |key: &str, value: &str, reason: &str| self.bad(key, value, &reason);
        let is_socket = matches!(self.transport, Transport::Socket(_));
        match (&self.installvia, &self.via, &self.ssh_config) {
            (None, ..) if self.transport == Transport::Socket(None) => {
                Err(bad("socket", "", "needs an address, host:port, or `installvia=`"))
            }
            (Some(id), ..) if !is_socket => Err(bad("installvia", id, "goes with `socket` only")),
            (_, Some(id), _) if is_socket => {
                Err(bad("via", id, "a socket is connected to from here: take `installvia=`"))
            }
            _ if self.tls.is_some() && (!is_socket || self.installvia.is_some()) => Err(bad(
                "tls",
                self.tls.as_deref().unwrap_or_default(),
                "goes with `socket=host:port` only: over `installvia=` nothing has a certificate",
            )),
            _ if self.keepalive.is_some()
                && !matches!(
                    self.transport,
                    Transport::Ssh(_) | Transport::VagrantSsh(_) | Transport::Socket(_)
                ) =>
            {
                Err(bad(
                    "keepalive",
                    self.value("keepalive"),
                    "goes with `ssh=`, `vagrant_ssh=` and `socket=` only",
                ))
            }
            (.., Some(path)) if !matches!(self.transport, Transport::Ssh(_) | Transport::VagrantSsh(_)) => {
                Err(bad("ssh_config", path, "goes with `ssh=` and `vagrant_ssh=` only"))
            }
            _ if self.start == Some(StartMode::Template)
                && (self.via.is_some() || self.transport != Transport::Popen) =>
            {
                Err(bad("start", "template", "goes with `popen` on this machine only"))
            }
            _ if self.threads_none
                && matches!(self.execmodel, Some(ExecModel::Gevent | ExecModel::Eventlet)) =>
            {
                Err(bad("threads", "none", "goes with `thread` and `main_thread_only` only"))
            }
            _ if self.stderr == Output::Null && (is_socket || self.via.is_some()) => Err(bad(
                "stderr",
                "null",
                "a worker behind a relay or a socket writes to the standard error of who started it",
            )),
            _ => Ok(()),
        }
    }
}

/// What a fingerprint begins with, by which it is told from a file.
pub(crate) const FINGERPRINT_PREFIX: &str = "sha256:";

/// Whether this is 64 hexadecimal digits, with colons between them or without.
fn is_fingerprint(text: &str) -> bool {
    let digits = text.replace(':', "");
    digits.len() == 64 && digits.chars().all(|digit| digit.is_ascii_hexdigit())
}

/// The names in a list with commas.
pub(crate) fn module_names(text: &str) -> Result<Vec<String>, &'static str> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with(char::is_numeric)
            && word.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let names: Vec<String> = names.map(str::to_owned).collect();
    match names.iter().all(|name| name.split('.').all(is_word)) {
        true => Ok(names),
        false => Err("take names of modules, with commas between them"),
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut spec = Self { text: text.into(), ..Self::default() };
        let mut transport: Option<&str> = None;
        for part in text.split("//") {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (part, None),
            };
            if key.is_empty() {
                return Err(SpecError::Empty { spec: text.into() });
            }
            if spec.items.iter().any(|(known, _)| known == key) {
                return Err(SpecError::DuplicateKey { key: key.into(), spec: text.into() });
            }
            // A worker behind a command is a process on this machine as well.
            if TRANSPORTS.contains(&key)
                && let Some(first) = transport.replace(key)
                && !matches!((first, key), ("popen", "command") | ("command", "popen"))
            {
                return Err(SpecError::TwoTransports {
                    spec: text.into(),
                    first: first.into(),
                    second: key.into(),
                });
            }
            spec.set(key, value)?;
            spec.items.push((key.into(), value.map(Into::into)));
        }
        spec.check()?;
        Ok(spec)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether one is the other with a letter missing, doubled, wrong or swapped.
fn is_close(known: &str, written: &str) -> bool {
    let (known, written): (Vec<_>, Vec<_>) = (known.chars().collect(), written.chars().collect());
    let same_start = known.iter().zip(&written).take_while(|(a, b)| a == b).count();
    let same_end = known.iter().rev().zip(written.iter().rev()).take_while(|(a, b)| a == b).count();
    let longest = known.len().max(written.len());
    known.len().abs_diff(written.len()) <= 1 && longest > 2 && same_start + same_end + 2 >= longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Spec>().unwrap_err().to_string()
    }

    #[test]
    fn a_spec_prints_as_it_was_written() {
        let spec: Spec = "popen//id=a//nice=3//dont_write_bytecode".parse().unwrap();
        assert_eq!(spec.to_string(), "popen//id=a//nice=3//dont_write_bytecode");
        assert_eq!((spec.id.as_deref(), spec.nice, spec.dont_write_bytecode), (Some("a"), Some(3), true));
    }

    #[test]
    fn short_forms_are_commands() {
        let command = |text: &str| match text.parse::<Spec>().unwrap().transport {
            Transport::Command(words) => words.join(" "),
            other => panic!("{other:?}"),
        };
        assert_eq!(command("docker=box"), "docker exec -i box");
        assert_eq!(command("podman=-u me box"), "podman exec -i -u me box");
        assert_eq!(command("kubectl=-n ns pod"), "kubectl exec -i -n ns pod --");
        assert_eq!(command("srun"), "srun -Q --unbuffered -n1");
        assert_eq!(command("srun=-w n1"), "srun -Q --unbuffered -n1 -w n1");
        assert_eq!(
            command("uv=numpy,python3.12"),
            "uv run --quiet --no-project --with numpy --python 3.12 --"
        );
        assert_eq!(command("popen//command=sudo -u 'a b'"), "sudo -u a b");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(error("socket").contains("needs an address"));
        assert!(error("popen//installvia=gw0").contains("goes with `socket` only"));
        assert!(error("socket=a:1//via=gw0").contains("take `installvia=`"));
        assert!(error("popen//via=gw0//stderr=null").contains("standard error of who started it"));
        assert!(error("popen//ssh_config=x").contains("goes with `ssh=`"));
        assert!(error("popen//keepalive=60").contains("goes with `ssh=`, `vagrant_ssh=` and `socket=` only"));
        assert!(error("ssh=host//tls=cert.pem").contains("goes with `socket=host:port` only"));
        assert!(error("socket//installvia=gw0//tls=cert.pem").contains("goes with `socket=host:port` only"));
        assert!(error("socket=a:1//tls=sha256:12").contains("needs 64 hexadecimal digits"));
    }

    #[test]
    fn bad_specs_are_refused_with_the_part_that_is_wrong() {
        assert_eq!(error("popen//nice=1//nice=2"), "duplicate key: `nice` in `popen//nice=1//nice=2`");
        assert!(error("").starts_with("empty part in spec ``"));
        assert!(error("popen//").starts_with("empty part"));
        assert!(error("popen//_x=1").starts_with("unknown key `_x` in `popen//_x=1`: known keys are popen"));
        assert!(error("popen//pyhton=x").ends_with("did you mean `python`?"));
        assert_eq!(error("nice=very"), "`nice=very` in `nice=very`: is no whole number");
        assert!(error("popen//python='a").ends_with("has a quotation mark too few"));
        assert!(error("popen//ssh=host").contains("two transports, `popen` and `ssh`"));
        assert!(
            error("execmodel=fast").contains("take `thread`, `main_thread_only`, `gevent` or `eventlet`")
        );
        assert_eq!(error("grace=-1"), "`grace=-1` in `grace=-1`: is no number of seconds");
        for wrong in ["3", "-1", "4.5", "soon", ""] {
            assert!(error(&format!("ssh=host//keepalive={wrong}")).contains("is no whole number of seconds"));
        }
        assert!(error("env:=1").contains("needs a name"));
        assert!(error("id").contains("needs a value"));
    }
}
