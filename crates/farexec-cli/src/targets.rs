//! Which workers: from the words of the command line to specs, each with the id of its gateway.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;

use farexec::{Gateway, Group, Output, Spec, StartError, Transport, Wait};

use crate::exit::{self, Failure, with_sources};
use crate::hosts::{Hosts, Named};
use crate::pattern;
use crate::progress;
use crate::screen::Screen;
use crate::stop::Stop;

/// What every subcommand that starts workers takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// A spec, a pattern, or a name of the hosts file; may be given many times, beside those behind the command
    #[arg(long = "on", value_name = "SPEC")]
    on: Vec<String>,

    #[command(flatten)]
    pub(crate) setting: Setting,
}

/// What a subcommand takes whose workers are named by its arguments alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Setting {
    /// The hosts file [default: FAREXEC_HOSTS, or ~/.config/farexec/hosts.toml]
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,

    /// Show which workers there would be, and how they are started; start nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// A spec, and the name that its worker goes by if it gives itself none.
struct Resolved {
    name: Option<String>,
    spec: Spec,
}

impl Selection {
    /// The specs that these words and those of `--on` stand for; without any, those of `otherwise`. See [`specs_of`].
    pub(crate) fn specs(
        &self,
        words: &[String],
        otherwise: &str,
        python: &str,
    ) -> Result<Vec<Spec>, Failure> {
        let words: Vec<String> = words.iter().chain(&self.on).cloned().collect();
        let words = if words.is_empty() { vec![otherwise.to_owned()] } else { words };
        specs_of(&words, &self.setting.load_hosts()?, python)
    }
}

impl Setting {
    pub(crate) fn load_hosts(&self) -> Result<Hosts, Failure> {
        Hosts::load(self.hosts.as_deref())
    }
}

/// The specs that these words stand for: each with an id, and with the interpreter `python` if it is to run here and names none.
pub(crate) fn specs_of(words: &[String], hosts: &Hosts, python: &str) -> Result<Vec<Spec>, Failure> {
    let mut resolved = Vec::new();
    for word in words {
        resolve(word, hosts, &mut resolved)?;
    }
    named(resolved, python)
}

fn resolve(word: &str, hosts: &Hosts, found: &mut Vec<Resolved>) -> Result<(), Failure> {
    for word in pattern::expand(word).map_err(Failure::mistake)? {
        match hosts.get(&word) {
            Some(Named::Host(specs)) => {
                for text in specs {
                    found.push(Resolved { name: Some(word.clone()), spec: parse(text, hosts)? });
                }
            }
            Some(Named::Group(words)) => {
                for word in words {
                    resolve(word, hosts, found)?;
                }
            }
            None => {
                let spec = parse(&word, hosts)?;
                found.push(Resolved { name: host_of(&spec), spec });
            }
        }
    }
    Ok(())
}

fn parse(text: &str, hosts: &Hosts) -> Result<Spec, Failure> {
    Spec::from_str(text).map_err(|error| {
        let is_bare = !text.contains(['=', '/']);
        match error {
            farexec::SpecError::UnknownKey { suggestion: None, .. } if is_bare => Failure::mistake(format!(
                "`{text}` is no spec and no name: {}; for a host write `ssh={text}`",
                hosts.unknown(text)
            )),
            error => Failure::mistake(error),
        }
    })
}

/// The host that a spec leads to, which people know it by.
fn host_of(spec: &Spec) -> Option<String> {
    let Transport::Ssh(arguments) = &spec.transport else { return None };
    let host = arguments.iter().rfind(|word| !word.starts_with('-'))?;
    Some(host.rsplit_once('@').map_or(host.as_str(), |(_, host)| host).to_owned())
}

/// Gives each spec an id: its own; the name it goes by, numbered if several do; or else gw0, gw1 and so on.
fn named(resolved: Vec<Resolved>, python: &str) -> Result<Vec<Spec>, Failure> {
    let mut taken = HashSet::new();
    for id in resolved.iter().filter_map(|resolved| resolved.spec.id.as_ref()) {
        if !taken.insert(id.clone()) {
            return Err(StartError::DuplicateId(id.clone()).into());
        }
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for name in resolved.iter().filter(|resolved| resolved.spec.id.is_none()).filter_map(|r| r.name.as_ref())
    {
        *times.entry(name.clone()).or_default() += 1;
    }
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut specs = Vec::with_capacity(resolved.len());
    for Resolved { name, mut spec } in resolved {
        if spec.id.is_none() {
            let base = name.as_deref();
            let is_alone = base.is_some_and(|name| times.get(name) == Some(&1));
            let number = numbers.entry(base.unwrap_or("gw").to_owned()).or_default();
            let id = loop {
                let candidate = match base {
                    Some(name) if is_alone && *number == 0 => name.to_owned(),
                    Some(name) => format!("{name}-{}", *number + 1),
                    None => format!("gw{number}"),
                };
                *number += 1;
                if taken.insert(candidate.clone()) {
                    break candidate;
                }
            };
            spec.id = Some(id);
        }
        if spec.transport == Transport::Popen && spec.via.is_none() && spec.python.is_none() {
            spec.set_python([python]);
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// Has what the worker prints come here, unless the spec says where it goes.
pub(crate) fn forward_output(spec: &mut Spec) {
    let says = |key: &str| spec.items.iter().any(|(known, _)| known == key);
    let (stdout, stderr) = (says("stdout"), says("stderr"));
    if !stdout {
        spec.stdout = Output::Forward;
    }
    if !stderr {
        spec.stderr = Output::Forward;
    }
}

/// A group that shows on the screen what its workers print.
pub(crate) fn group(screen: &Arc<Screen>) -> Group {
    let (group, screen) = (Group::new(), Arc::clone(screen));
    group.set_output(move |line| screen.output(&line));
    group
}

/// Workers that were started.
pub(crate) struct Workers {
    pub(crate) group: Group,
    pub(crate) gateways: Vec<Gateway>,
    /// The exit code so far: whether one could not be started.
    pub(crate) code: u8,
}

impl Workers {
    /// Starts a worker for each spec, all at once, and says why those are not there that could not be started. What workers print comes
    /// to the screen.
    ///
    /// # Errors
    /// [`Failure`] if none could be started, or Ctrl-C was pressed.
    pub(crate) fn start(mut specs: Vec<Spec>, screen: &Arc<Screen>, stop: &Stop) -> Result<Self, Failure> {
        specs.iter_mut().for_each(forward_output);
        let group = group(screen);
        let ids: Vec<String> = specs.iter().filter_map(|spec| spec.id.clone()).collect();
        screen.set_gateways(&ids);
        let is_asked = || stop.is_asked();
        let what = match &ids[..] {
            [_] => "starting a worker".to_owned(),
            ids => format!("starting {} workers", ids.len()),
        };
        let starting = progress::waiting_for(screen, &specs, what);
        let started = group.start_each(specs, &Wait::forever().unless(&is_asked));
        starting.finish_and_clear();
        if stop.is_asked() {
            return Err(Failure::new(exit::STOPPED, "stopped while workers started"));
        }
        let count = ids.len();
        let mut workers = Self { group, gateways: Vec::new(), code: exit::DONE };
        for (id, result) in ids.iter().zip(started) {
            match result {
                Ok(gateway) => workers.gateways.push(gateway),
                Err(error) => {
                    workers.code = workers.code.max(exit::start_code(&error));
                    screen.error(id, &with_sources(&error));
                }
            }
        }
        if workers.gateways.is_empty() {
            let text = if count == 1 {
                "the worker could not be started".to_owned()
            } else {
                format!("none of {count} workers could be started")
            };
            return Err(Failure::new(workers.code, text));
        }
        Ok(workers)
    }

    /// Ends them: in order as long as they take no longer than a second (or their `grace=`), and Ctrl-C is not pressed twice.
    pub(crate) fn end(&self, stop: &Stop) {
        let is_pressed = || stop.is_pressed();
        let wait = Wait::at_most(self.group.exit_timeout()).unless(&is_pressed);
        if self.group.terminate_with(&wait, true).is_err() {
            self.gateways.iter().for_each(Gateway::kill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let specs = specs_of(&words, &Hosts::default(), "python3").unwrap();
        specs.into_iter().filter_map(|spec| spec.id).collect()
    }

    #[test]
    fn gateways_go_by_the_names_of_their_hosts() {
        assert_eq!(ids(&["popen", "ssh=-p 22 me@web01", "popen"]), ["gw0", "web01", "gw1"]);
        assert_eq!(ids(&["ssh=web[1-2]*2"]), ["web1-1", "web1-2", "web2-1", "web2-2"]);
        assert_eq!(ids(&["popen//id=gw0", "popen", "ssh=a//id=b", "ssh=b"]), ["gw0", "gw1", "b", "b-2"]);
    }

    #[test]
    fn a_word_that_is_nothing_says_what_it_could_be() {
        let error =
            |word: &str| specs_of(&[word.to_owned()], &Hosts::default(), "python3").unwrap_err().to_string();
        assert!(error("web01").contains("for a host write `ssh=web01`"));
        assert!(error("ssh").contains("needs a value"));
        assert!(error("popen//chdri=/").contains("did you mean `chdir`"));
        let twice = ["popen//id=a".to_owned(), "popen//id=a".to_owned()];
        assert!(
            specs_of(&twice, &Hosts::default(), "python3").unwrap_err().to_string().contains("the id `a`")
        );
    }
}
