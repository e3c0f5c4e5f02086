//! What developers run: `cargo xtask test` builds everything and runs every check and test there is.
//!
//! Each step is a plain command that is printed before it runs, so that it can be repeated by hand.

mod api;
mod scratch;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::scratch::Scratch;

#[derive(Parser)]
#[command(about = "Builds and checks farexec")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds everything and runs every check and test
    Test {
        /// Only the steps whose name has this in it
        #[arg(long)]
        only: Option<String>,
        /// Seconds that each fuzz target runs; 0 skips fuzzing, which needs cargo-fuzz
        #[arg(long, default_value_t = 0)]
        fuzz: u32,
    },
    /// Builds the Python package and installs it, with what its tests need, into an environment under target/
    Env,
    /// Makes the documentation's site under target/site, with warnings as errors; needs the environment that `env` makes
    Docs,
    /// Writes the public API of the crates down anew, in public-api/
    Api,
}

/// What the tests of the Python package need, and what makes the documentation's site.
const TEST_REQUIREMENTS: [&str; 18] = [
    "maturin>=1.9,<2",
    "pytest-xdist",
    "pytest>=8",
    "pyte",
    "playwright",
    "pytest-timeout",
    "hypothesis",
    "gevent",
    "eventlet",
    "numpy",
    "tqdm",
    "types-tqdm",
    "uv",
    "ruff",
    "mypy",
    "sphinx>=8",
    "furo",
    "myst-parser>=4",
];

/// What runs on the shim: programs that use execnet, and what their own tests need. The shim takes the place of execnet afterwards.
const CLIENTS: [&str; 8] = [
    "pytest==8.4.2",
    "pytest-xdist[testing]==3.8.0",
    "pytest-cov",
    "pytest-rerunfailures",
    "pytest-timeout",
    "packaging",
    "pretend",
    "remoto",
];

/// The behaviour of workers, which is tested with those from a template and once more with interpreters of their own.
const SPAWNED: [&str; 7] = [
    "tests/test_call.py",
    "tests/test_channel.py",
    "tests/test_gateway.py",
    "tests/test_endings.py",
    "tests/test_seed.py",
    "tests/test_codecs.py",
    "tests/test_rsync.py",
];

const SITE: &str = "target/site";

const FUZZ_TARGETS: &str = "fuzz/fuzz_targets";

/// Where the commands of this run have their temporary files.
static TEMPORARY: OnceLock<PathBuf> = OnceLock::new();

/// One of the things that `test` does.
type Step = Box<dyn Fn() -> Result<()>>;

fn main() -> ExitCode {
    match perform() {
        Ok(()) => ExitCode::SUCCESS,
        // Without a backtrace of xtask itself: what failed is the command, and its last lines are above this one.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform() -> Result<()> {
    // Asked for now, not when this was compiled: a folder of built things may have been filled from another clone.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").context("this is run as `cargo xtask`")?;
    std::env::set_current_dir(Path::new(&own).parent().context("xtask lies in the workspace")?)?;
    match Arguments::parse().task {
        Task::Test { only, fuzz } => test(only.as_deref(), fuzz),
        Task::Env => environment().map(drop),
        Task::Docs => site(),
        Task::Api => api::renew(),
    }
}

fn test(only: Option<&str>, fuzz: u32) -> Result<()> {
    let began = Instant::now();
    let mut steps: Vec<(&str, Step)> = vec![
        ("rustfmt", Box::new(|| cargo(&["fmt", "--all", "--check"]))),
        (
            "clippy",
            Box::new(|| {
                cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
            }),
        ),
        (
            "minimal features",
            Box::new(|| {
                let libraries = ["-p", "farexec", "-p", "farexec-proto"];
                let rest = ["--all-targets", "--no-default-features", "--", "-D", "warnings"];
                cargo(&[&["clippy"], &libraries[..], &rest].concat())
            }),
        ),
        ("rust tests", Box::new(|| cargo(&["test", "--workspace", "--all-features"]))),
        ("rust examples", Box::new(examples)),
        ("rustdoc", Box::new(rustdoc)),
        ("public API", Box::new(api::compare)),
        ("python package", Box::new(|| environment().map(drop))),
        ("arrays of numpy", Box::new(numpy_arrays)),
        ("ruff", Box::new(|| python(&["-m", "ruff", "check", "."]))),
        ("mypy", Box::new(|| python(&["-m", "mypy"]))),
        ("stubtest", Box::new(|| python(&["-m", "mypy.stubtest", "farexec._native"]))),
        ("site", Box::new(site)),
        ("spawned rust tests", Box::new(spawned_rust_tests)),
        ("spawned python tests", Box::new(|| pytest(&[&["--start=spawn"], &SPAWNED[..]].concat()))),
        (
            "python tests",
            Box::new(|| {
                let folders = ["tests/worker", "tests/command", "tests/release", "tests/faults"];
                let elsewhere = folders.map(|folder| ["--ignore", folder]).concat();
                pytest(&[&elsewhere[..], &["tests", "tests/doctests.py"]].concat())
            }),
        ),
        ("faults", Box::new(|| pytest(&["tests/faults"]))),
        ("command tests", Box::new(command_tests)),
        ("release tests", Box::new(|| pytest(&["tests/release"]))),
        ("shim tests", Box::new(shim_tests)),
        ("clients", Box::new(clients)),
        // They wait more than they compute.
        ("worker tests", Box::new(|| pytest(&["-n", "6", "--dist", "worksteal", "tests/worker"]))),
        ("bench", Box::new(bench)),
        // Those in which nothing but the Rust code has a part: they are the same each time.
        ("instructions", Box::new(|| python(&["bench/instructions.py", "--only", "rust-*"]))),
    ];
    if fuzz > 0 {
        steps.push(("fuzz", Box::new(move || fuzz_all(fuzz))));
    }
    let scratch = Scratch::make()?;
    TEMPORARY.get_or_init(|| scratch.path().to_owned());
    for (name, step) in steps {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        say(&format!("== {name} (after {} seconds)", began.elapsed().as_secs()));
        step()
            .and_then(|()| scratch.expect_nothing())
            .with_context(|| format!("the step `{name}` failed"))?;
    }
    say(&format!("== all steps passed in {} seconds", began.elapsed().as_secs()));
    Ok(())
}

fn rustdoc() -> Result<()> {
    run(Command::new("cargo")
        .args(["doc", "--no-deps", "--workspace", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

/// The pages and the reference of the Python package, with what rustdoc makes beside them.
fn site() -> Result<()> {
    python(&["-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-c", "docs", ".", SITE])?;
    rustdoc()?;
    run(Command::new("cp").arg("-rT").arg(built().join("doc")).arg(Path::new(SITE).join("rust")))?;
    say(&format!("the site begins at {SITE}/docs/index.html"));
    Ok(())
}

/// The folder of what cargo builds.
fn built() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

fn examples() -> Result<()> {
    let mut names: Vec<String> = std::fs::read_dir("examples")?
        .filter_map(|entry| entry.ok()?.path().file_name()?.to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    for name in names {
        cargo(&["run", "--quiet", "-p", "farexec", "--example", &name])?;
    }
    Ok(())
}

/// The interpreter of an environment that has the package and what its tests need.
fn environment() -> Result<PathBuf> {
    let interpreter = environment_with(Path::new("target/venv"), &TEST_REQUIREMENTS)?;
    pip(&interpreter, &["install", "--force-reinstall", "--no-deps", "."])?;
    Ok(interpreter)
}

/// An environment that has these.
fn environment_with(folder: &Path, requirements: &[&str]) -> Result<PathBuf> {
    let interpreter = folder.join("bin/python");
    if !interpreter.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    pip(&interpreter, &[&["install"], requirements].concat())?;
    Ok(interpreter)
}

fn pip(interpreter: &Path, arguments: &[&str]) -> Result<()> {
    let (action, rest) = arguments.split_first().context("pip is told what to do")?;
    run(Command::new(interpreter)
        .args(["-m", "pip", action, "--quiet", "--disable-pip-version-check"])
        .args(rest))
}

/// execnet's users on the shim, in an environment where it has the place of execnet.
fn clients() -> Result<()> {
    let interpreter = environment_with(Path::new("target/clients"), &CLIENTS)?;
    pip(&interpreter, &["install", "--force-reinstall", "--no-deps", ".", "./shim"])?;
    let arguments =
        ["-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-c", "shim/clients/pytest.ini"];
    // Files that the tests of other projects leave are no affair of this one's; processes are.
    let folder = TEMPORARY.get().context("the steps have a folder for temporary files")?.join("clients");
    std::fs::create_dir(&folder)?;
    run(Command::new(interpreter).args(arguments).arg("shim/clients").env("TMPDIR", &folder))?;
    Ok(std::fs::remove_dir_all(&folder)?)
}

/// The Rust test that needs the environment of the Python package.
fn numpy_arrays() -> Result<()> {
    let interpreter = std::path::absolute("target/venv/bin/python")?;
    let arguments = ["test", "-p", "farexec", "--features", "ndarray", "--test", "arrays", "--", "--ignored"];
    run(Command::new("cargo").args(arguments).env("FAREXEC_NUMPY", interpreter))
}

fn spawned_rust_tests() -> Result<()> {
    let arguments = ["test", "-p", "farexec", "--test", "workers", "--test", "channels", "--test", "rsync"];
    run(Command::new("cargo").args(arguments).env("FAREXEC_START", "spawn"))
}

fn bench() -> Result<()> {
    pytest(&["bench"])?;
    cargo(&["build", "--release", "-p", "farexec", "--example", "farexec-bench"])?;
    embedded_bench()?;
    python(&["bench/run.py", "--quick"])
}

/// The contender that has the interpreter in itself, if that comes as a shared library.
fn embedded_bench() -> Result<()> {
    let interpreter = std::path::absolute("target/venv/bin/python")?;
    let question = "import os, sysconfig; \
        shared, folder, name = map(sysconfig.get_config_var, ('Py_ENABLE_SHARED', 'LIBDIR', 'LDLIBRARY')); \
        print(bool(shared and os.path.exists(os.path.join(folder, name))))";
    let answer = Command::new(&interpreter).args(["-c", question]).output()?;
    if answer.stdout != b"True\n" {
        say("this interpreter comes without its library, and is not measured embedded");
        return Ok(());
    }
    let arguments = ["build", "--release", "--manifest-path", "bench/embedded/Cargo.toml", "--target-dir"];
    run(Command::new("cargo").args(arguments).arg(built()).env("PYO3_PYTHON", interpreter))
}

fn python(arguments: &[&str]) -> Result<()> {
    run(Command::new("target/venv/bin/python").args(arguments))
}

fn pytest(arguments: &[&str]) -> Result<()> {
    python(&[&["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"], arguments].concat())
}

/// Of the binary that cargo builds; some are of the Python package's console script as well.
fn command_tests() -> Result<()> {
    cargo(&["build", "-p", "farexec-cli"])?;
    let command = std::path::absolute(built().join("debug/farexec"))?;
    let arguments = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/command"];
    run(Command::new("target/venv/bin/python").args(arguments).env("FAREXEC_COMMAND", command))
}

/// The shim is not installed for them, since pytest-xdist uses execnet itself here.
fn shim_tests() -> Result<()> {
    let arguments = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", "shim/tests"];
    run(Command::new("target/venv/bin/python").args(arguments).env("PYTHONPATH", "shim/src"))
}

fn fuzz_all(seconds: u32) -> Result<()> {
    let mut targets: Vec<String> = std::fs::read_dir(FUZZ_TARGETS)?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    targets.sort();
    if targets.is_empty() {
        bail!("no fuzz targets in {FUZZ_TARGETS}");
    }
    for target in targets {
        let limit = format!("-max_total_time={seconds}");
        run(Command::new("cargo")
            .args(["fuzz", "run", "-s", "none", &target, "--", &limit, "-rss_limit_mb=4096"])
            .env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let shown = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    say(&format!("$ {shown}"));
    if !command.get_envs().any(|(name, _)| name == "TMPDIR") {
        command.envs(TEMPORARY.get().map(|folder| ("TMPDIR", folder)));
    }
    let status = command.status().with_context(|| format!("could not run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

fn say(line: &str) {
    println!("{line}");
}
