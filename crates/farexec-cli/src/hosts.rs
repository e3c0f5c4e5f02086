//! The hosts file: names for specs, and groups of names.
//!
//! ```toml
//! [defaults]                          # for every host of this file that does not say it itself
//! python = "python3.12"
//!
//! [hosts]
//! web = "ssh=web[01-12]//chdir=/srv"  # a spec, with a pattern
//! gpu = { ssh = "me@gpu", nice = 5, env = { CUDA_VISIBLE_DEVICES = "0" } }
//!
//! [groups]
//! all = ["web", "gpu", "popen*4"]     # names and specs
//! ```
//!
//! It is read whole before any of it is used, so that a mistake anywhere is told, with its line and its key.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use farexec::Spec;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::exit::Failure;
use crate::pattern;

/// What names the file if no option does.
const VARIABLE: &str = "FAREXEC_HOSTS";

/// Keys of a spec that go with some ways to reach a worker only. A default of that kind is none for other hosts.
const GOES_WITH: [(&str, &[&str]); 4] = [
    ("ssh_config", &["ssh", "vagrant_ssh"]),
    ("keepalive", &["ssh", "vagrant_ssh", "socket"]),
    ("secret_file", &["socket"]),
    ("start", &["popen"]),
];

/// A hosts file that was read.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    path: Option<PathBuf>,
    hosts: BTreeMap<String, Vec<String>>,
    groups: BTreeMap<String, Vec<String>>,
}

/// What a name stands for.
pub(crate) enum Named<'a> {
    /// These specs.
    Host(&'a [String]),
    /// These names and specs.
    Group(&'a [String]),
}

impl Hosts {
    /// Reads the file that is named, or else the user's own, if there is one.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let named = named
            .map(Path::to_owned)
            .or_else(|| env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(Into::into));
        let (path, must_exist) = match (named, own_file()) {
            (Some(path), _) => (path, true),
            (None, Some(path)) => (path, false),
            (None, None) => return Ok(Self::default()),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::read(&path, &text).map_err(Failure::mistake),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(error) => {
                Err(Failure::mistake(format!("cannot read the hosts file `{}`: {error}", path.display())))
            }
        }
    }

    /// What a name stands for in this file.
    pub(crate) fn get(&self, name: &str) -> Option<Named<'_>> {
        let host = self.hosts.get(name).map(|specs| Named::Host(specs));
        host.or_else(|| self.groups.get(name).map(|words| Named::Group(words)))
    }

    /// What is said of a name that is in no hosts file.
    pub(crate) fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.hosts.keys().chain(self.groups.keys()).map(String::as_str).collect();
        match &self.path {
            None => format!("there is no hosts file that could have the name `{name}`"),
            Some(path) if known.is_empty() => format!("the hosts file {} has no names", path.display()),
            Some(path) => format!("the hosts file {} has the names {}", path.display(), known.join(", ")),
        }
    }

    fn read(path: &Path, text: &str) -> Result<Self, String> {
        let reader = Reader { path, text };
        let document = DeTable::parse(text)
            .map_err(|error| reader.at(error.span().map_or(0, |span| span.start), error.message()))?;
        let mut defaults = Vec::new();
        let mut hosts = Self { path: Some(path.to_owned()), ..Self::default() };
        let table = |key: &str, value| reader.table(key, value, "a table");
        for (key, value) in document.get_ref() {
            match &**key.get_ref() {
                "defaults" => defaults = reader.parts(table("defaults", value)?)?,
                "hosts" | "groups" => drop(table(key.get_ref(), value)?),
                other => {
                    let text = format!("unknown key `{other}`: known are [defaults], [hosts] and [groups]");
                    return Err(reader.at(key.span().start, &text));
                }
            }
        }
        for (name, value) in section(document.get_ref(), "hosts") {
            let specs = reader.host(name, value, &defaults)?;
            hosts.hosts.insert(reader.name(name)?, specs);
        }
        for (name, value) in section(document.get_ref(), "groups") {
            let words = reader.group(name, value)?;
            if hosts.groups.insert(reader.name(name)?, words).is_some()
                || hosts.hosts.contains_key(&**name.get_ref())
            {
                let text = format!("`{}` is a host already: a group needs a name of its own", name.get_ref());
                return Err(reader.at(name.span().start, &text));
            }
        }
        for (name, value) in section(document.get_ref(), "groups") {
            hosts
                .check_group(name.get_ref(), &mut vec![name.get_ref()])
                .map_err(|text| reader.at(value.span().start, &text))?;
        }
        Ok(hosts)
    }

    /// Whether every word of a group is a name or a spec, and the group is in itself nowhere.
    fn check_group<'a>(&'a self, name: &str, within: &mut Vec<&'a str>) -> Result<(), String> {
        for word in self.groups.get(name).into_iter().flatten() {
            for word in pattern::expand(word)? {
                if let Some((known, _)) = self.groups.get_key_value(&word) {
                    if within.contains(&known.as_str()) {
                        return Err(format!(
                            "the group `{known}` is in itself: {} -> {known}",
                            within.join(" -> ")
                        ));
                    }
                    within.push(known);
                    self.check_group(known, within)?;
                    within.pop();
                } else if !self.hosts.contains_key(&word) {
                    Spec::from_str(&word).map_err(|error| {
                        format!(
                            "`{word}` in the group `{name}` is no name of this file, and no spec: {error}"
                        )
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// The entries of a table of the file.
fn section<'t, 'd>(
    document: &'t DeTable<'d>,
    name: &str,
) -> impl Iterator<Item = (&'t Key<'d>, &'t Value<'d>)> {
    match document.get(name).map(Spanned::get_ref) {
        Some(DeValue::Table(table)) => Some(table),
        _ => None,
    }
    .into_iter()
    .flatten()
}

fn own_file() -> Option<PathBuf> {
    let config =
        env::var_os("XDG_CONFIG_HOME").filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
    let config = config.or_else(|| env::home_dir().map(|home| home.join(".config")));
    config.map(|config| config.join("farexec").join("hosts.toml"))
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// A part of a spec, `key` or `key=value`, and its key.
type Part = (String, String);

/// The text of the file, for errors.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn at(&self, offset: usize, text: &str) -> String {
        let line = 1 + self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
        format!("{}, line {line}: {text}", self.path.display())
    }

    fn table<'v, 'd>(
        &self,
        key: &str,
        value: &'v Value<'d>,
        expected: &str,
    ) -> Result<&'v DeTable<'d>, String> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            other => Err(self.at(value.span().start, &format!("`{key}` is {expected}, not {}", kind(other)))),
        }
    }

    /// A name that no spec could be taken for.
    fn name(&self, name: &Key<'_>) -> Result<String, String> {
        let text = name.get_ref();
        let is_name =
            !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if is_name && &**text != "popen" {
            return Ok(text.clone().into_owned());
        }
        let why =
            format!("`{text}` cannot be a name: take letters, digits, `-`, `_` and `.`, and not `popen`");
        Err(self.at(name.span().start, &why))
    }

    fn host(&self, name: &Key<'_>, value: &Value<'_>, defaults: &[Part]) -> Result<Vec<String>, String> {
        let name = name.get_ref();
        let at = |text: &str| self.at(value.span().start, text);
        let text = match value.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            DeValue::Table(table) => {
                let parts: Vec<String> = self.parts(table)?.into_iter().map(|(_, part)| part).collect();
                parts.join("//")
            }
            other => {
                return Err(at(&format!(
                    "the host `{name}` is a spec, or a table of the keys of a spec, not {}",
                    kind(other)
                )));
            }
        };
        let complete = |text: String| {
            let spec = Spec::from_str(&text).map_err(|error| at(&format!("the host `{name}`: {error}")))?;
            let has = |key: &str| spec.items.iter().any(|(known, _)| known == key);
            let fits = |key: &str| {
                GOES_WITH
                    .iter()
                    .all(|(limited, with)| *limited != key || with.iter().any(|transport| has(transport)))
            };
            let added =
                defaults.iter().filter(|(key, _)| !has(key) && fits(key)).map(|(_, part)| part.as_str());
            let whole = std::iter::once(text.as_str()).chain(added).collect::<Vec<_>>().join("//");
            match Spec::from_str(&whole) {
                Ok(_) => Ok(whole),
                Err(error) => Err(at(&format!("the host `{name}` with what [defaults] adds: {error}"))),
            }
        };
        pattern::expand(&text)
            .map_err(|error| at(&format!("the host `{name}`: {error}")))?
            .into_iter()
            .map(complete)
            .collect()
    }

    /// The keys of a table as parts of a spec: the one that says how the worker is reached first, since patterns are looked for there.
    fn parts(&self, table: &DeTable<'_>) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().clone().into_owned();
            if name == "env" {
                for (variable, value) in self.table("env", value, "a table of variables")? {
                    let name = format!("env:{}", variable.get_ref());
                    let text = self.scalar(&name, value)?.unwrap_or_default();
                    parts.push((name.clone(), format!("{name}={text}")));
                }
                continue;
            }
            let part = match self.scalar(&name, value)? {
                Some(text) => format!("{name}={text}"),
                None => name.clone(),
            };
            // A key that no spec has is told where it stands. What it needs beside it may stand elsewhere.
            if let Err(error @ farexec::SpecError::UnknownKey { .. }) = Spec::from_str(&part) {
                return Err(self.at(key.span().start, &error.to_string()));
            }
            parts.push((name, part));
        }
        let is_transport = |key: &str| {
            matches!(
                Spec::from_str(&format!("{key}=x//popen")),
                Err(farexec::SpecError::TwoTransports { .. })
            )
        };
        parts.sort_by_key(|(key, _)| !(is_transport(key) || key == "command"));
        Ok(parts)
    }

    /// The text of a value, or `None` for a key without one.
    fn scalar(&self, key: &str, value: &Value<'_>) -> Result<Option<String>, String> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(true) => return Ok(None),
            other => {
                let text = format!("`{key}` is a string, a number or true, not {}", kind(other));
                return Err(self.at(value.span().start, &text));
            }
        };
        if text.contains("//") {
            return Err(
                self.at(value.span().start, &format!("`{key}` has `//` in it, which ends a part of a spec"))
            );
        }
        Ok(Some(text))
    }

    fn group(&self, name: &Key<'_>, value: &Value<'_>) -> Result<Vec<String>, String> {
        let expected = format!("the group `{}` is a list of names and specs", name.get_ref());
        let DeValue::Array(words) = value.get_ref() else {
            return Err(self.at(value.span().start, &format!("{expected}, not {}", kind(value.get_ref()))));
        };
        let word = |word: &Value<'_>| match word.get_ref() {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            other => Err(self.at(word.span().start, &format!("{expected}, and {} is neither", kind(other)))),
        };
        words.iter().map(word).collect()
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Hosts, String> {
        Hosts::read(Path::new("hosts.toml"), text)
    }

    fn host(hosts: &Hosts, name: &str) -> Vec<String> {
        match hosts.get(name) {
            Some(Named::Host(specs)) => specs.to_vec(),
            _ => panic!("{name} is no host"),
        }
    }

    #[test]
    fn hosts_groups_and_defaults() {
        let hosts = read(
            r#"
            [defaults]
            python = "python3.12"
            ssh_config = "cfg"
            keepalive = 30
            [hosts]
            web = "ssh=web[1-2]//python=python3"
            gpu = { nice = 5, ssh = "me@gpu", dont_write_bytecode = true, env = { A = "1" } }
            here = "popen"
            [groups]
            all = ["web", "gpu", "popen*2"]
            "#,
        )
        .unwrap();
        let web = [
            "ssh=web1//python=python3//keepalive=30//ssh_config=cfg",
            "ssh=web2//python=python3//keepalive=30//ssh_config=cfg",
        ];
        assert_eq!(host(&hosts, "web"), web);
        let gpu: Spec = host(&hosts, "gpu")[0].parse().unwrap();
        assert!(gpu.as_str().starts_with("ssh=me@gpu//"));
        assert_eq!(
            (gpu.nice, gpu.dont_write_bytecode, gpu.python.as_deref()),
            (Some(5), true, Some("python3.12"))
        );
        assert_eq!(gpu.env, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(host(&hosts, "here"), ["popen//python=python3.12"]);
        assert!(matches!(hosts.get("all"), Some(Named::Group(words)) if words.len() == 3));
        assert!(hosts.get("none").is_none());
    }

    #[test]
    fn mistakes_are_told_with_line_and_key() {
        let error = |text: &str| read(text).unwrap_err();
        assert!(error("[hosts\n").starts_with("hosts.toml, line 1: "));
        assert_eq!(
            error("\n[host]\n"),
            "hosts.toml, line 2: unknown key `host`: known are [defaults], [hosts] and [groups]"
        );
        assert!(error("[hosts]\nweb = 3").starts_with("hosts.toml, line 2: the host `web` is a spec"));
        assert!(
            error("[hosts]\na = \"popen\"\nweb = \"ssh=h//pyhton=x\"")
                .contains("line 3: the host `web`: unknown key `pyhton`")
        );
        assert!(error("[hosts.web]\nssh = \"h\"\nchdri = \"/\"").contains("line 3: unknown key `chdri`"));
        assert!(
            error("[hosts.web]\nssh = [\"h\"]")
                .contains("line 2: `ssh` is a string, a number or true, not a list")
        );
        assert!(error("[hosts.web]\nssh = \"a//b\"").contains("`ssh` has `//` in it"));
        assert!(
            error("[hosts.web]\nssh = \"h\"\nenv = 1")
                .contains("line 3: `env` is a table of variables, not a number")
        );
        assert!(error("[defaults]\npyton = \"x\"").contains("line 2: unknown key `pyton`"));
        assert!(error("hosts = 1").contains("line 1: `hosts` is a table, not a number"));
        assert!(
            error("[groups]\na = [\"b\"]")
                .contains("line 2: `b` in the group `a` is no name of this file, and no spec")
        );
        assert!(error("[groups]\na = [\"b\"]\nb = [\"a\"]").contains("is in itself: a -> b -> a"));
        assert!(error("[groups]\na = \"popen\"").contains("is a list of names and specs, not a string"));
        assert!(error("[groups]\na = [1]").contains("and a number is neither"));
        assert!(
            error("[hosts]\na = \"popen\"\n[groups]\na = [\"popen\"]")
                .contains("line 4: `a` is a host already")
        );
        assert!(error("[hosts]\npopen = \"popen\"").contains("line 2: `popen` cannot be a name"));
        assert!(error("[hosts]\n\"a b\" = \"popen\"").contains("cannot be a name"));
    }
}
