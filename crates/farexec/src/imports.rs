//! Giving modules of this machine to workers that miss them: what answers `importer.py`.
//!
//! Nothing of Python runs for it here: a module is looked for as a file below the root that its name was allowed with, by the rule by
//! which an interpreter looks in a folder of its path.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farexec_proto::Value;
use parking_lot::Mutex;

use crate::channel::{Channel, ReceiveError};
use crate::error::ExecError;
use crate::gateway::Gateway;
use crate::receive_queue::Item;
use crate::source::Source;

const IMPORTER: &str = include_str!("importer.py");

/// Why modules were not allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowError {
    /// It is no name, or that of something inside of a package.
    #[error("`{0}` is no name of a module at the top, such as `package`; what is in it is allowed with it")]
    Name(String),
    /// No root has such a module, or its text is not UTF-8.
    #[error("there is no module `{name}` that has a text to send in {}", list(.roots))]
    Missing {
        /// The module.
        name: String,
        /// Where it was looked for.
        roots: Vec<PathBuf>,
    },
    /// The gateway has ended.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The worker did not agree: it has no thread for it (`threads=none`), it is a Rust program, or it ended.
    #[error("the worker takes no modules: {0}")]
    Worker(#[from] ReceiveError),
}

fn list(roots: &[PathBuf]) -> String {
    let shown: Vec<_> = roots.iter().map(|root| format!("`{}`", root.display())).collect();
    if shown.is_empty() { "no folder at all".into() } else { shown.join(", ") }
}

/// What the worker of a gateway may import from here: the names at the top, each with its root.
#[derive(Clone, Default)]
pub(crate) struct Imports(Arc<Mutex<BTreeMap<String, PathBuf>>>);

impl Gateway {
    /// Has the worker import modules from here that it misses: their text is sent when it is asked for.
    ///
    /// Only what the worker cannot find itself comes from here, and only modules that are named, with all that is in them: `names` are
    /// those at the top, such as `package`; `roots` are the folders that have them, the first one first. A further call allows further
    /// modules. Modules that are compiled, files beside them, and texts that are not UTF-8 are not sent.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("shapes.py"), "def area(a, b): return a * b")?;
    ///
    /// let gateway = group.make_gateway("popen")?;
    /// gateway.allow_imports(["shapes"], [folder.path()])?;
    /// assert_eq!(gateway.call::<i64>("shapes:area", &(6, 7))?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AllowError`]; if it is about a name, nothing is allowed.
    pub fn allow_imports(
        &self,
        names: impl IntoIterator<Item: Into<String>>,
        roots: impl IntoIterator<Item: Into<PathBuf>>,
    ) -> Result<(), AllowError> {
        let channel = self.ask_to_import(names, roots)?;
        channel.receive::<()>()?;
        self.imports().answer(channel)
    }

    /// Allows the modules here, and tells the worker, which says None over the channel when it knows.
    pub(crate) fn ask_to_import(
        &self,
        names: impl IntoIterator<Item: Into<String>>,
        roots: impl IntoIterator<Item: Into<PathBuf>>,
    ) -> Result<Channel, AllowError> {
        let roots: Vec<PathBuf> = roots.into_iter().map(Into::into).collect();
        let mut allowed = BTreeMap::new();
        for name in names {
            let name = name.into();
            if !is_identifier(&name) {
                return Err(AllowError::Name(name));
            }
            match root_of(&name, &roots) {
                Some(root) => allowed.insert(name, root),
                None => return Err(AllowError::Missing { name, roots }),
            };
        }
        let names = Value::List(allowed.keys().map(|name| name.as_str().into()).collect());
        self.imports().0.lock().extend(allowed);
        let source = Source::text(IMPORTER).at("<farexec importer>", 1).call("serve").with("names", names);
        Ok(self.remote_exec(source.beside())?)
    }
}

impl Imports {
    /// Answers what is asked over the channel, as long as it lives. The callback has the channel, and is let go of at its end.
    pub(crate) fn answer(&self, channel: Channel) -> Result<(), AllowError> {
        let (imports, answers) = (self.clone(), channel.clone());
        let callback = move |item| match item {
            Item::Data(asked) => {
                // Whoever asks may be anybody, and ask for anything.
                let text = match asked.decode::<Value>() {
                    Ok(Value::Str(name)) => imports.text_of(&name),
                    _ => Value::None,
                };
                answers.send(&text).map_err(|error| error.to_string())
            }
            Item::End(_) => Ok(()),
        };
        channel.set_callback(callback).map_err(|error| AllowError::Worker(error.into()))
    }

    /// What the worker is told of a module: None, or whether it is a package, the name of its file, and its text.
    fn text_of(&self, name: &str) -> Value {
        let parts: Vec<&str> = name.split('.').collect();
        let root = self.0.lock().get(parts[0]).cloned();
        match root {
            Some(root) if parts.iter().all(|part| is_identifier(part)) => found(&root, &parts)
                .map_or(Value::None, |(is_package, file, text)| {
                    Value::Tuple(vec![is_package.into(), file.into(), text.into()])
                }),
            _ => Value::None,
        }
    }
}

/// The first root that has a module of that name; or else the first in which it is a folder.
fn root_of(name: &str, roots: &[PathBuf]) -> Option<PathBuf> {
    let in_file = |root: &&PathBuf| in_file(&root.join(name)).is_some();
    let in_folder = |root: &&PathBuf| root.join(name).is_dir();
    roots.iter().find(in_file).or_else(|| roots.iter().find(in_folder)).cloned()
}

fn found(root: &Path, parts: &[&str]) -> Option<(bool, String, String)> {
    let path = parts.iter().fold(root.to_owned(), |path, part| path.join(part));
    in_file(&path)
        .or_else(|| path.is_dir().then(|| (true, format!("<namespace {}>", parts.join(".")), String::new())))
}

/// A package with a file of its own, or a module.
fn in_file(path: &Path) -> Option<(bool, String, String)> {
    let read = |is_package: bool, file: PathBuf| {
        let text = fs::read_to_string(&file).ok()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Some((is_package, file.to_string_lossy().into_owned(), text.to_owned()))
    };
    read(true, path.join("__init__.py")).or_else(|| read(false, path.with_extension("py")))
}

/// Whether it is one, roughly; in any case it is no way out of a folder.
fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_numeric())
        && name.chars().all(|each| each == '_' || each.is_alphanumeric())
}
