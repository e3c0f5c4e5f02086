//! The binary: the command, with `python3` for workers on this machine.

fn main() -> std::process::ExitCode {
    farexec_cli::main(std::env::args_os(), "python3").into()
}
