//! The source as it is sent: its entries in order, parents first.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use farexec_proto::Value;

use super::{Failure, Observer, RsyncError};
use crate::sys;

/// Entries that travel in one item.
const BATCH: usize = 1000;

/// What is in a source, without the content of files.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the root; empty for the root itself.
    path: Vec<u8>,
    kind: Kind,
    mode: u32,
    pub(super) size: u64,
    /// In nanoseconds since 1970.
    time: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    /// A link, with what it says.
    Link(Vec<u8>),
    /// A link that names a place in the source by its absolute path: it is to name the same place in the destination.
    InnerLink(Vec<u8>),
    /// It could not be looked at, so what the destination has of it stays.
    Kept,
}

impl Tree {
    /// Looks at everything under `root` that the observer wants. What cannot be read is noted as a failure and left out.
    pub(super) fn scan(
        root: &Path,
        observer: &mut dyn Observer,
        failures: &mut Vec<Failure>,
    ) -> Result<Self, RsyncError> {
        let unreadable = |source| RsyncError::Source { path: root.to_owned(), source };
        let metadata = fs::metadata(root).map_err(unreadable)?;
        let scanner = Scanner { root, own_names: names_of(root).map_err(unreadable)?, observer, failures };
        let mut tree = Self { root: root.to_owned(), entries: Vec::new() };
        tree.entries.push(scanner.entry(Vec::new(), &metadata, root)?);
        if metadata.is_dir() {
            // The root itself must be readable: what is to be sent is unknown otherwise.
            fs::read_dir(root).map_err(unreadable)?;
            scanner.scan(&mut tree.entries)?;
        }
        Ok(tree)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The file of this number, if that is one.
    pub(super) fn file(&self, number: usize) -> Option<&Entry> {
        self.entries.get(number).filter(|entry| entry.kind == Kind::File)
    }

    /// The path of an entry, relative to the root.
    pub(super) fn relative(&self, number: usize) -> Option<&Path> {
        self.entries.get(number).map(Entry::relative)
    }

    /// Where an entry of this tree is on this machine.
    pub(super) fn place(&self, entry: &Entry) -> PathBuf {
        if entry.path.is_empty() { self.root.clone() } else { self.root.join(entry.relative()) }
    }

    /// The entries as items for receivers.
    pub(super) fn batches(&self) -> Vec<Value> {
        self.entries.chunks(BATCH).map(batch).collect()
    }
}

impl Entry {
    fn relative(&self) -> &Path {
        sys::path_of(&self.path)
    }
}

fn batch(entries: &[Entry]) -> Value {
    let (mut kinds, mut paths, mut links) = (Vec::new(), Vec::new(), Vec::new());
    let (mut modes, mut sizes, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let zero_ended = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(bytes);
        out.push(0);
    };
    for entry in entries {
        kinds.push(match &entry.kind {
            Kind::File => b'f',
            Kind::Directory => b'd',
            Kind::Link(_) => b'l',
            Kind::InnerLink(_) => b'i',
            Kind::Kept => b'k',
        });
        if let Kind::Link(target) | Kind::InnerLink(target) = &entry.kind {
            zero_ended(&mut links, target);
        }
        zero_ended(&mut paths, &entry.path);
        modes.extend(entry.mode.to_le_bytes());
        sizes.extend(entry.size.to_le_bytes());
        times.extend(entry.time.to_le_bytes());
    }
    let mut item = vec![Value::from("tree")];
    item.extend([kinds, paths, modes, sizes, times, links].map(Value::Bytes));
    Value::List(item)
}

struct Scanner<'a> {
    root: &'a Path,
    /// The absolute names that the root is known by, for links into it.
    own_names: Vec<Vec<u8>>,
    observer: &'a mut dyn Observer,
    failures: &'a mut Vec<Failure>,
}

impl Scanner<'_> {
    fn scan(mut self, entries: &mut Vec<Entry>) -> Result<(), RsyncError> {
        // Directories whose names are still to be looked at, the next one last, and the number of the entry of each.
        let mut waiting = vec![(Vec::new(), 0)];
        while let Some((folder, number)) = waiting.pop() {
            let place =
                if folder.is_empty() { self.root.to_owned() } else { self.root.join(sys::path_of(&folder)) };
            let names = match sorted_names(&place) {
                Ok(names) => names,
                Err(error) => {
                    entries[number].kind = Kind::Kept;
                    self.fail(&folder, &error);
                    continue;
                }
            };
            let first = waiting.len();
            for name in names {
                let place = place.join(sys::path_of(&name));
                let mut path = folder.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(name);
                if !self.observer.wants(&place)? {
                    continue;
                }
                match fs::symlink_metadata(&place) {
                    Ok(metadata) if metadata.is_dir() => {
                        waiting.push((path.clone(), entries.len()));
                        entries.push(self.entry(path, &metadata, &place)?);
                    }
                    Ok(metadata) => entries.push(self.entry(path, &metadata, &place)?),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        self.fail(&path, &error);
                        entries.push(Entry { path, kind: Kind::Kept, mode: 0, size: 0, time: 0 });
                    }
                }
            }
            waiting[first..].reverse();
        }
        Ok(())
    }

    fn entry(&self, path: Vec<u8>, metadata: &Metadata, place: &Path) -> Result<Entry, RsyncError> {
        let (mode, time) = (sys::mode(metadata), sys::modified(metadata));
        let kind = if metadata.is_dir() {
            Kind::Directory
        } else if metadata.is_file() {
            return Ok(Entry { path, kind: Kind::File, mode, size: metadata.len(), time });
        } else if metadata.is_symlink() {
            let target = fs::read_link(place)
                .map_err(|source| RsyncError::Source { path: place.to_owned(), source })?;
            self.link(sys::path_bytes(&target))
        } else {
            return Err(RsyncError::Special(place.to_owned()));
        };
        Ok(Entry { path, kind, mode, size: 0, time })
    }

    fn link(&self, target: &[u8]) -> Kind {
        let inner =
            self.own_names.iter().find_map(|name| target.strip_prefix(name.as_slice())?.strip_prefix(b"/"));
        match inner {
            Some(inner) if !has_parent_step(inner) => Kind::InnerLink(inner.to_vec()),
            _ => Kind::Link(target.to_vec()),
        }
    }

    fn fail(&mut self, path: &[u8], error: &io::Error) {
        self.failures.push(Failure::at_source(sys::path_of(path), error));
    }
}

fn has_parent_step(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|name| name == b"..")
}

/// The root's absolute path, as given and with links resolved.
fn names_of(root: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for path in [std::path::absolute(root)?, fs::canonicalize(root)?] {
        let mut name = sys::path_bytes(&path).to_vec();
        while name.len() > 1 && name.ends_with(b"/") {
            name.pop();
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn sorted_names(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(sys::path_bytes(&entry?.file_name()).to_vec());
    }
    names.sort_unstable();
    Ok(names)
}
