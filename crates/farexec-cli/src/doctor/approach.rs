//! The steps before the worker itself: the way to the host, and the interpreter there.

use std::io::IsTerminal as _;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use farexec::{Spec, Transport};

use super::commands::{self, Said};
use super::{Examination, Found, Over, advice};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The status that `ssh` exits with for failures of its own.
const SSH_FAILED: i32 = 255;

/// What an interpreter prints before what it is.
const MARK: &str = "farexec-doctor:";

/// Read by every version of Python, and by every shell between single quotes.
const PROBE: &str = r#"import sys, platform; print("farexec-doctor: %s %d.%d.%d %s" % ((platform.python_implementation(),) + tuple(sys.version_info[:3]) + (sys.executable,)))"#;

/// The steps that the transport of the spec has.
pub(super) fn steps(examination: &mut Examination<'_>) -> Result<(), Over> {
    let spec = examination.spec.clone();
    if spec.via.is_some() || spec.installvia.is_some() {
        return Ok(());
    }
    match &spec.transport {
        Transport::Popen => {
            let chdir = spec.chdir.as_deref().filter(|directory| Path::new(directory).is_dir());
            interpreter(examination, &[], &|command| {
                command.envs(spec.env.iter().map(|(name, value)| (name, value)));
                if let Some(directory) = chdir {
                    command.current_dir(directory);
                }
            })
        }
        Transport::Ssh(arguments) => ssh(examination, arguments),
        Transport::Command(prefix) => {
            program(examination, prefix.first().map_or("", String::as_str))?;
            interpreter(examination, prefix, &|_| {})
        }
        Transport::Socket(Some(address)) => {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            connection(examination, host, port)
        }
        _ => Ok(()),
    }
}

/// The words of the interpreter, with the variables that it starts with if another program starts it.
fn python_words(spec: &Spec) -> Result<Vec<String>, Over> {
    let words = shell_words::split(spec.python.as_deref().unwrap_or("python3"))
        .map_err(|_| Over(crate::exit::MISTAKE))?;
    if spec.env.is_empty() || spec.transport == Transport::Popen {
        return Ok(words);
    }
    let variables = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
    Ok(std::iter::once("env".to_owned()).chain(variables).chain(words).collect())
}

/// The interpreter itself.
fn program_of(spec: &Spec) -> String {
    let words = spec.python.as_deref().and_then(|python| shell_words::split(python).ok());
    words.and_then(|words| words.into_iter().next()).unwrap_or_else(|| "python3".into())
}

/// Runs a command as a step. What it says is for `judge`.
fn command_step<T>(
    examination: &Examination<'_>,
    name: &str,
    words: &[String],
    shown: &str,
    setting: &dyn Fn(&mut std::process::Command),
    judge: impl FnOnce(Said) -> (Found, Option<T>),
) -> Result<Option<T>, Over> {
    examination.step(name, Some(shown), || {
        match commands::run(words, |command| setting(command), examination.stop) {
            Ok(said) => judge(said),
            Err(error) => {
                let program = words.first().map_or("", String::as_str);
                let to_do = match examination.spec.transport {
                    Transport::Popen => advice::no_interpreter(program),
                    _ => format!("install `{program}`, or name it with its whole path"),
                };
                (Found::bad(format!("`{program}`: {error}"), to_do), None)
            }
        }
    })
}

/// Whether the interpreter is there, and new enough. `prefix`: what stands before it.
fn interpreter(
    examination: &Examination<'_>,
    prefix: &[String],
    setting: &dyn Fn(&mut std::process::Command),
) -> Result<(), Over> {
    let python = python_words(&examination.spec)?;
    let words = [prefix, &python, &["-c".to_owned(), PROBE.to_owned()]].concat();
    let shown = shell_words::join([prefix, &python, &["-c".to_owned(), "...".to_owned()]].concat());
    let name = program_of(&examination.spec);
    command_step(examination, "interpreter", &words, &shown, setting, |said| {
        (judge_interpreter(&said, &name), None::<()>)
    })?;
    Ok(())
}

fn judge_interpreter(said: &Said, name: &str) -> Found {
    let answer = said.stdout.lines().find_map(|line| line.split_once(MARK)).map(|(_, answer)| answer.trim());
    let Some(answer) = answer else {
        let is_missing = said.status == Some(127)
            || ["not found", "No such file"].iter().any(|text| said.stderr.contains(text));
        let to_do = match is_missing {
            true => advice::no_interpreter(name),
            false => "it is no interpreter that works: run the command by hand with `-c 'print(1)'`".into(),
        };
        return Found::bad(said.why(), to_do);
    };
    let version = answer.split(' ').nth(1).unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version {
        (2, 7..) | (3, 6..) | (4.., _) => Found::Well(answer.to_owned()),
        _ => Found::bad(
            format!("{answer} is too old"),
            format!("name a newer interpreter by `python=`: {}", advice::OLDEST),
        ),
    }
}

fn program(examination: &Examination<'_>, name: &str) -> Result<(), Over> {
    examination.step("program", None, || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = match name.contains('/') {
            true => Some(Path::new(name).to_owned()).filter(|path| path.exists()),
            false => std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file()),
        };
        match found {
            Some(path) => (Found::Well(path.display().to_string()), None::<()>),
            None => {
                let to_do = format!("install `{name}`, or name it with its whole path");
                (Found::bad(format!("there is no program `{name}`"), to_do), None)
            }
        }
    })?;
    Ok(())
}

/// Name resolution, and a connection to the first address that takes one.
fn connection(examination: &Examination<'_>, host: &str, port: &str) -> Result<(), Over> {
    let name = host.trim_matches(['[', ']']);
    let port_number = port.parse::<u16>().unwrap_or(0);
    let addresses = examination.step("name", None, || {
        match (name, port_number).to_socket_addrs().map(Vec::from_iter) {
            Ok(addresses) if !addresses.is_empty() => {
                let texts: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                (Found::Well(format!("{name} is {}", texts.join(", "))), Some(addresses))
            }
            Ok(_) => (Found::bad(format!("{name} has no address"), advice::unknown_host(name)), None),
            Err(error) => (Found::bad(format!("{name}: {error}"), advice::unknown_host(name)), None),
        }
    })?;
    examination.step("connection", None, || {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in addresses.unwrap_or_default() {
            match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                Ok(_) => return (Found::Well(format!("{address} answers")), None::<()>),
                Err(error) => last = error,
            }
        }
        let to_do = advice::unreachable(&last, &format!("{host}:{port}"));
        (Found::bad(format!("{host}:{port}: {last}"), to_do), None)
    })?;
    Ok(())
}

/// What `ssh` makes of its arguments and configuration.
struct Settings {
    host: String,
    port: String,
    /// Whether it goes through something else, so that no direct connection says anything.
    goes_through: bool,
}

fn ssh(examination: &Examination<'_>, arguments: &[String]) -> Result<(), Over> {
    let config: Vec<String> =
        examination.spec.ssh_config.iter().flat_map(|path| ["-F".to_owned(), path.clone()]).collect();
    let words = |first: &[&str], last: &[String]| -> Vec<String> {
        let first = std::iter::once("ssh").chain(first.iter().copied()).map(str::to_owned);
        first.chain(config.iter().chain(arguments).chain(last).cloned()).collect()
    };
    let asked = words(&["-G"], &[]);
    let settings =
        command_step(examination, "settings", &asked, &shell_words::join(&asked), &|_| {}, |said| {
            match settings(&said) {
                Some(settings) => {
                    let through = if settings.goes_through { ", through another host" } else { "" };
                    (
                        Found::Well(format!("{} port {}{through}", settings.host, settings.port)),
                        Some(settings),
                    )
                }
                None => {
                    let to_do = "look at the arguments of `ssh=` and the file of `ssh_config=`";
                    (Found::bad(said.why(), to_do), None)
                }
            }
        })?;
    if let Some(settings) = settings
        && !settings.goes_through
    {
        connection(examination, &settings.host, &settings.port)?;
    }
    // Where nobody could answer, nobody is asked.
    let quietly: &[&str] = if std::io::stderr().is_terminal() { &[] } else { &["-o", "BatchMode=yes"] };
    let login = words(quietly, &["true".to_owned()]);
    let said = command_step(examination, "login", &login, &shell_words::join(&login), &|_| {}, |said| {
        match said.status {
            Some(0) => (Found::Well("the host lets us in".into()), Some(said)),
            _ => (Found::bad(said.why(), advice::ssh(&format!("{}{}", said.stderr, said.stdout))), None),
        }
    })?;
    if let Some(said) = said {
        remarks(examination, &said)?;
    }
    let python = python_words(&examination.spec)?;
    let remote = |code: &str| shell_words::join(python.iter().map(String::as_str).chain(["-c", code]));
    let probe = words(quietly, &[remote(PROBE)]);
    let shown = shell_words::join(words(quietly, &[remote("...")]));
    let name = program_of(&examination.spec);
    command_step(examination, "interpreter", &probe, &shown, &|_| {}, |said| {
        let found = match said.status {
            Some(SSH_FAILED) => Found::bad(said.why(), advice::ssh(&said.stderr)),
            _ => judge_interpreter(&said, &name),
        };
        (found, None::<()>)
    })?;
    Ok(())
}

fn settings(said: &Said) -> Option<Settings> {
    let value = |key: &str| {
        said.stdout
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
            .filter(|value| *value != "none")
    };
    if said.status != Some(0) {
        return None;
    }
    Some(Settings {
        host: value("hostname")?.to_owned(),
        port: value("port")?.to_owned(),
        goes_through: value("proxycommand").or(value("proxyjump")).is_some(),
    })
}

/// What a login shell did besides what it was asked to.
fn remarks(examination: &Examination<'_>, said: &Said) -> Result<(), Over> {
    let printed = said.stdout.trim();
    if !printed.is_empty() {
        let first = printed.lines().next().unwrap_or_default();
        let text = format!("a start-up file of the shell prints, though nobody is there to read: `{first}`");
        let to_do = "farexec skips it, scp and rsync do not: have it print in interactive shells only (`case $- in *i*) ...`)";
        examination.remark("shell", &Found::strange(text, to_do))?;
    }
    if let Some(line) = said.stderr.lines().find(|line| line.contains("chdir to home directory")) {
        let to_do = "make the directory, or say by `chdir=` where to start; without it workers start in `/`";
        examination.remark("home", &Found::strange(line.trim(), to_do))?;
    }
    Ok(())
}
