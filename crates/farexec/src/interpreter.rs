//! What is known of the interpreters on this machine, learned from the workers that ran in them, so that what is slow about a start is
//! done once: compiling the worker, and finding the interpreter behind a script of its name, as pyenv and asdf put on the path.
//!
//! An interpreter is known by its file as it is. One that was upgraded underneath is another one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, OnceLock};

use farexec_proto::control::{Compiled, Hello};
use parking_lot::Mutex;

use crate::bootstrap::{self, STAGE_0, Stage1};
use crate::spec::Spec;
use crate::sys::{self, FileIdentity};
use crate::{monitor, timeline};

/// What a worker on this machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// Its working directory, if that is not ours.
    pub(crate) directory: Option<PathBuf>,
}

/// A command that may be known to start an interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    words: Vec<String>,
    key: Option<Key>,
    known: Option<Arc<Interpreter>>,
}

/// What tells commands apart that may start different interpreters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    program: PathBuf,
    file: FileIdentity,
    /// `None`: the program is the interpreter, so they do not change which one it is.
    arguments: Option<Vec<String>>,
    /// What else a script may choose by.
    setting: Option<u64>,
}

#[derive(Debug)]
struct Interpreter {
    /// What starts it without a detour, and what the detour did to the environment.
    direct: Option<(Vec<String>, Changes)>,
    executable: PathBuf,
    file: FileIdentity,
    /// Whether its workers can be forked from a template.
    forks: bool,
    compiled: Option<Compiled>,
    /// The code of what makes a template of the worker; empty: it compiles that from its text.
    template: Vec<u8>,
    stage_1: OnceLock<Stage1>,
    template_stage_1: OnceLock<Stage1>,
}

/// An interpreter as its workers see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    words: Vec<String>,
    key: Key,
    file: FileIdentity,
}

/// Variables that are set or taken away.
type Changes = Vec<(OsString, Option<OsString>)>;

/// The oldest CPython that a template is made of: it tells its modules of forks, and keeps its collector off what is shared.
const FORKS_FROM: [u32; 2] = [3, 7];

static KNOWN: Mutex<BTreeMap<Key, Arc<Interpreter>>> = Mutex::new(BTreeMap::new());

/// Tells what a program knows of an interpreter on this machine before a worker has run in it: how it compiled the worker, and what makes
/// a template of that (`marshal`'s bytes of its code, or none). The Python package does so for the interpreter that runs it.
pub fn know_interpreter(executable: &Path, compiled: &Compiled, template: &[u8]) {
    let Some(file) = sys::file_identity(executable) else { return };
    let program = executable.to_owned();
    let key = Key { program, file, arguments: None, setting: None };
    let forks = compiled.implementation == "cpython";
    let mut interpreter = Interpreter::new(executable.to_owned(), file, forks, Some(compiled.clone()), None);
    interpreter.template = template.to_vec();
    KNOWN.lock().insert(key, Arc::new(interpreter));
}

impl Interpreter {
    fn new(
        executable: PathBuf,
        file: FileIdentity,
        forks: bool,
        compiled: Option<Compiled>,
        direct: Option<(Vec<String>, Changes)>,
    ) -> Self {
        let (stage_1, template_stage_1) = (OnceLock::new(), OnceLock::new());
        Self { direct, executable, file, forks, compiled, template: Vec::new(), stage_1, template_stage_1 }
    }
}

impl Setting {
    pub(crate) fn new(spec: &Spec) -> Self {
        let mut environment: BTreeMap<_, _> = std::env::vars_os().collect();
        for ours in [monitor::VARIABLE, timeline::VARIABLE] {
            environment.remove(OsStr::new(ours));
        }
        environment.extend(spec.env.iter().map(|(name, value)| (name.into(), value.into())));
        if spec.dont_write_bytecode {
            environment.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
        }
        Self { environment, directory: spec.chdir.as_ref().map(PathBuf::from) }
    }

    fn hashed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.environment, self.current_directory()).hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn current_directory(&self) -> PathBuf {
        let ours = || std::env::current_dir().unwrap_or_default();
        self.directory.as_ref().map_or_else(ours, |directory| ours().join(directory))
    }

    /// The file that runs when this program is named.
    fn find(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            return Some(self.current_directory().join(program));
        }
        let path = self.environment.get(OsStr::new("PATH"))?;
        std::env::split_paths(path)
            .map(|folder| self.current_directory().join(folder).join(program))
            .find(|candidate| sys::is_executable(candidate))
    }
}

impl Command {
    /// Looks up what is known of a command.
    pub(crate) fn new(words: Vec<String>, setting: &Setting) -> Self {
        let key = words.split_first().and_then(|(program, arguments)| {
            let is_bare = !program.contains('/');
            let program = setting.find(program)?;
            let file = sys::file_identity(&program)?;
            let arguments = Some(arguments.to_vec());
            let setting = sys::is_script(&program).then(|| setting.hashed());
            // A script that somebody names by its path is there for what else it does.
            (is_bare || setting.is_none()).then_some(Key { program, file, arguments, setting })
        });
        let known = key.as_ref().and_then(|key| {
            let any = Key { arguments: None, ..key.clone() };
            let known = KNOWN.lock();
            known.get(&any).or_else(|| known.get(key)).cloned()
        });
        let is_same = |known: &Arc<Interpreter>| sys::file_identity(&known.executable) == Some(known.file);
        Self { words, key, known: known.filter(is_same) }
    }

    /// Looks it up again.
    pub(crate) fn again(self, setting: &Setting) -> Self {
        Self::new(self.words, setting)
    }

    /// The command that has an interpreter read stage 1, the most direct one that is known.
    pub(crate) fn command(&self, setting: &Setting) -> process::Command {
        let (words, changes) = match self.known.as_ref().and_then(|known| known.direct.as_ref()) {
            Some((words, changes)) => (words, &changes[..]),
            None => (&self.words, &[][..]),
        };
        let mut command = process::Command::new(words.first().map_or("", String::as_str));
        command.args(words.iter().skip(1)).args(["-c", STAGE_0]);
        command.env_clear().envs(&setting.environment);
        for (name, value) in changes {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &setting.directory {
            command.current_dir(directory);
        }
        command
    }

    /// What a worker is to read first.
    pub(crate) fn stage_1(&self) -> Stage1 {
        let Some(known) = &self.known else { return bootstrap::offering() };
        let make = || known.compiled.as_ref().map_or_else(bootstrap::offering, bootstrap::compiled);
        Arc::clone(known.stage_1.get_or_init(make))
    }

    /// What a template is to read first.
    pub(crate) fn template_stage_1(&self) -> Stage1 {
        let Some(known) = &self.known else { return bootstrap::template(None, &[]) };
        let make = || bootstrap::template(known.compiled.as_ref(), &known.template);
        Arc::clone(known.template_stage_1.get_or_init(make))
    }

    /// What its workers have in common with others, if they can be forked from a template.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let known = self.known.as_ref().filter(|known| known.forks)?;
        Some(Identity { words: self.words.clone(), key: self.key.clone()?, file: known.file })
    }

    /// Whether a worker has to say hello before more is known.
    pub(crate) fn is_unknown(&self) -> bool {
        self.known.is_none() && self.key.is_some()
    }

    /// Whether these are the same as far as one can know before.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.words, &self.key) == (&other.words, &other.key)
    }

    /// A worker was started by this, as the process `pid`, and said `hello`.
    pub(crate) fn learn(&self, setting: &Setting, pid: Option<u32>, hello: &Hello) {
        // Another process than the one that we started: what else happens on the way to it is not ours to leave out.
        if self.known.is_some() || pid != Some(hello.pid) {
            return;
        }
        let Some(key) = self.key.clone() else { return };
        let executable = PathBuf::from(&hello.executable);
        let Some(file) = sys::file_identity(&executable) else { return };
        let arguments = if file == key.file { None } else { key.arguments };
        let direct = match key.setting {
            Some(_) => direct(hello, setting),
            None => None,
        };
        let forks = hello.implementation == "cpython" && hello.version.as_slice() >= FORKS_FROM.as_slice();
        let interpreter = Interpreter::new(executable, file, forks, hello.compiled.clone(), direct);
        let key = Key { arguments, ..key };
        let mut known = KNOWN.lock();
        known.retain(|other, _| other.program != key.program || other.file == key.file);
        known.insert(key, Arc::new(interpreter));
    }
}

/// How a script started the interpreter that said `hello`, if the system tells.
fn direct(hello: &Hello, setting: &Setting) -> Option<(Vec<String>, Changes)> {
    let arguments = sys::arguments_of(hello.pid)?;
    let end = arguments.iter().position(|argument| argument == "-c")?;
    if arguments.get(end + 1).map(String::as_str) != Some(STAGE_0) {
        return None;
    }
    let mut words = vec![hello.executable.clone()];
    words.extend(arguments.into_iter().take(end).skip(1));
    let environment = sys::environment_of(hello.pid)?;
    let set = environment.iter().filter(|(name, value)| setting.environment.get(*name) != Some(value));
    let unset = setting.environment.keys().filter(|name| !environment.contains_key(*name));
    let changes = set.map(|(name, value)| (name.clone(), Some(value.clone())));
    Some((words, changes.chain(unset.map(|name| (name.clone(), None))).collect()))
}
