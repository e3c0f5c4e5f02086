//! The command line as a whole, and which subcommand does what.

use std::ffi::OsString;
use std::io::{self, Write as _};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::exit::{self, Failure};
use crate::{doctor, generate, map, rsync, run, screen, serve, status, top};

/// Runs Python anywhere: on this machine, over ssh, in containers and on clusters, with nothing installed there.
#[derive(Parser)]
#[command(name = "farexec", version, after_help = EXAMPLES, after_long_help = long_help(), max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,

    /// Whether what people read is coloured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

const EXAMPLES: &str = "\
Examples:
  farexec run -c 'channel.send(2 + 2)'                   on this machine
  farexec run -c 'print(\"hello\")' 'ssh=web[01-12]'       on twelve hosts
  seq 1000 | farexec map -c 'item ** 2' 'popen*4'        four workers, results in order
  farexec rsync ./site 'ssh=web[01-12]:/srv/site'
  farexec doctor ssh=web01                               why a host cannot be reached";

const SPECS: &str = "\
A SPEC says where a worker starts: `popen` (this machine), `ssh=HOST`, `podman=CONTAINER`, and more;
`//` adds to it: `ssh=web01//python=python3.12//chdir=/srv`. `*4` makes four of it, `[01-12]` twelve.
Names come from the hosts file: --hosts, FAREXEC_HOSTS, or ~/.config/farexec/hosts.toml.";

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{SPECS}\n\n{}\n\ndocs/COMMAND.md has the whole story.", exit::TABLE)
}

#[derive(Clone, Copy, ValueEnum)]
enum Color {
    /// At a terminal, unless NO_COLOR is set
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

#[derive(Subcommand)]
enum Task {
    Run(run::Arguments),
    Map(map::Arguments),
    Rsync(rsync::Arguments),
    Serve(serve::Arguments),
    Status(status::Arguments),
    Doctor(doctor::Arguments),
    Top(top::Arguments),
    Completions(generate::Completions),
    Man(generate::Man),
}

/// Runs the command and returns its exit code. `arguments` begin with the command's own name; `python` is the interpreter of workers on this
/// machine whose spec names none.
///
/// Until it returns, the signals that ask a process to end are its own.
///
/// ```
/// assert_eq!(farexec_cli::main(["farexec", "--version"], "python3"), 0);
/// assert_eq!(farexec_cli::main(["farexec", "run", "popen//chdri=/tmp"], "python3"), 2);
/// ```
pub fn main<A>(arguments: impl IntoIterator<Item = A>, python: &str) -> u8
where
    A: Into<OsString> + Clone,
{
    let parsed =
        command().try_get_matches_from(arguments).and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes where results go, a mistake where errors go; nobody can be told if neither can be written.
            let _ = error.print();
            return if error.use_stderr() { exit::MISTAKE } else { exit::DONE };
        }
    };
    match arguments.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let result = match arguments.task {
        Task::Run(arguments) => run::run(arguments, python),
        Task::Map(arguments) => map::map(arguments, python),
        Task::Rsync(arguments) => rsync::rsync(arguments, python),
        Task::Serve(arguments) => serve::serve(&arguments, python),
        Task::Status(arguments) => status::status(&arguments, python),
        Task::Doctor(arguments) => doctor::doctor(&arguments, python),
        Task::Top(arguments) => top::top(&arguments),
        Task::Completions(arguments) => generate::completions(&arguments),
        Task::Man(arguments) => generate::man(&arguments),
    };
    result.unwrap_or_else(|failure| {
        tell(&failure);
        failure.code
    })
}

/// Says why the command ends, unless it ends because nobody listens.
fn tell(failure: &Failure) {
    if failure.code != exit::UNREAD {
        let (error, plain) = (anstyle::AnsiColor::Red.on_default().bold(), anstyle::Reset);
        let text = screen::styled(&format_args!("{error}farexec:{plain} {failure}\n"), &io::stderr());
        let _ = io::stderr().write_all(&text);
    }
}

/// The command line, for completions and man pages.
///
/// ```
/// let names: Vec<_> = farexec_cli::command().get_subcommands().map(|task| task.get_name().to_owned()).collect();
/// assert!(names.contains(&"doctor".to_owned()));
/// ```
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}
