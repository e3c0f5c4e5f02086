//! `farexec completions` and `farexec man`: what is made of the command line itself.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap_complete::Shell;
use clap_mangen::Man as Page;

use crate::exit::{self, Failure};

/// Writes what a shell needs to complete this command's arguments
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farexec completions bash > ~/.local/share/bash-completion/completions/farexec
  farexec completions zsh > ~/.zfunc/_farexec
  farexec completions fish > ~/.config/fish/completions/farexec.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Writes the manual page of this command, or of a subcommand
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farexec man | man -l -
  farexec man --all ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// The subcommand
    #[arg(value_name = "COMMAND", conflicts_with = "all")]
    task: Option<String>,

    /// Write all pages into this directory
    #[arg(long, value_name = "DIRECTORY")]
    all: Option<PathBuf>,
}

pub(crate) fn completions(arguments: &Completions) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::command(), "farexec", &mut text);
    write(&text)
}

pub(crate) fn man(arguments: &Man) -> Result<u8, Failure> {
    // Subcommands get their full names, and the options that all have.
    let mut command = crate::command().disable_help_subcommand(true);
    command.build();
    if let Some(directory) = &arguments.all {
        let unwritten =
            |error| Failure::new(exit::FAILED, format!("cannot write to `{}`: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(unwritten)?;
        for task in std::iter::once(&command).chain(command.get_subcommands()) {
            let name = task.get_display_name().unwrap_or_else(|| task.get_name());
            std::fs::write(directory.join(format!("{name}.1")), page(task)).map_err(unwritten)?;
        }
        return Ok(exit::DONE);
    }
    let task = match &arguments.task {
        None => &command,
        Some(name) => command
            .find_subcommand(name)
            .ok_or_else(|| Failure::mistake(format!("there is no command `{name}`: see `farexec --help`")))?,
    };
    write(page(task).as_bytes())
}

/// The manual page of a command. What stands behind its options is to stay in lines as it is.
fn page(task: &clap::Command) -> String {
    let mut text = Vec::new();
    // Memory takes everything.
    let _ = Page::new(task.clone()).render(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    match text.split_once(".SH EXTRA\n") {
        Some((options, notes)) => {
            let (notes, rest) = notes.split_once("\n.SH ").unwrap_or((notes, "VERSION\n"));
            format!("{options}.SH NOTES\n.nf\n{notes}\n.fi\n.SH {rest}")
        }
        None => text,
    }
}

fn write(text: &[u8]) -> Result<u8, Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(|error| Failure::unwritten(&error))?;
    Ok(exit::DONE)
}
