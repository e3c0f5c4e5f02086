//! Rsync: what arrives is what is here, whatever was there before; nothing else is touched, and what fails is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use farexec::{
    Channel, Gateway, Group, Observer, Rsync, RsyncError, RsyncEvent, RsyncReport, Stop, Wait, WaitError,
};

struct Place {
    _group: Group,
    gateway: Gateway,
    folder: tempfile::TempDir,
}

/// A worker that is reached as those on other machines are: content is sent to it.
const ELSEWHERE: &str = "command=env";

/// A worker that copies large files itself.
const HERE: &str = "popen";

impl Place {
    fn new() -> Self {
        Self::at(ELSEWHERE)
    }

    fn at(spec: &str) -> Self {
        let group = Group::new();
        let gateway = group.make_gateway(spec).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        Self { _group: group, gateway, folder }
    }

    fn source(&self, name: &str) -> PathBuf {
        self.folder.path().join("source").join(name)
    }

    fn there(&self, name: &str) -> PathBuf {
        self.folder.path().join("made/on the way/there").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.source(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn rsync(&self) -> Rsync {
        Rsync::new(self.source("")).to(&self.gateway, self.there(""))
    }

    fn mirror(&self) -> Rsync {
        Rsync::new(self.source("")).mirror_to(&self.gateway, self.there(""))
    }

    fn assert_same(&self) {
        assert_eq!(tree(&self.there("")), tree(&self.source("")));
    }
}

/// Every path under a folder, with what is there.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(place) = waiting.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let what = if metadata.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                waiting.push(path.clone());
                format!("directory {mode:o}")
            } else {
                let content = fs::read(&path).unwrap();
                let time = metadata.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                format!("file {mode:o} {time:?} {} bytes {:x}", content.len(), md5ish(&content))
            };
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), what);
        }
    }
    found
}

/// A number that differs when the content does.
fn md5ish(content: &[u8]) -> u64 {
    content.iter().fold(14_695_981_039_346_656_037, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
    })
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[2]
    };
    (0..length).map(|_| next()).collect()
}

fn failures(result: Result<RsyncReport, RsyncError>) -> Vec<(PathBuf, String)> {
    match result {
        Err(RsyncError::Incomplete { failures, .. }) => {
            failures.into_iter().map(|failure| (failure.path, failure.reason)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tree_arrives_as_it_is_and_only_what_changes_is_sent_again() {
    let place = Place::new();
    place.write("empty", "");
    place.write("one", "hello");
    place.write("deep/er/two", vec![b'x'; 100_000]);
    place.write("large", noise(3_000_000));
    place.write("name with \n and ü", "odd");
    fs::create_dir_all(place.source("hollow")).unwrap();
    for (name, mode) in [("one", 0o640), ("deep/er/two", 0o755), ("empty", 0o400), ("deep", 0o750)] {
        fs::set_permissions(place.source(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("one", place.source("link")).unwrap();
    symlink("nowhere", place.source("dangling")).unwrap();
    set_time(&place.source("one"), 1_000_000_000);

    let report = place.rsync().send().unwrap().targets.remove(0);
    assert_eq!((report.files, report.sent, report.reused), (5, 3_100_008, 0));
    place.assert_same();

    let report = place.rsync().send().unwrap().targets.remove(0);
    assert_eq!((report.files, report.sent), (0, 0));

    // A new time alone: the content is compared, and not sent.
    set_time(&place.source("one"), 1_100_000_000);
    set_time(&place.source("large"), 1_100_000_000);
    let report = place.rsync().send().unwrap().targets.remove(0);
    assert_eq!((report.files, report.sent), (2, 0));
    place.assert_same();

    // New permissions alone.
    fs::set_permissions(place.source("one"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.rsync().send().unwrap().targets[0].files, 0);
    place.assert_same();

    // One byte of a large file, and some in its middle.
    let mut large = noise(3_000_000);
    large[1_234_567] ^= 1;
    large.splice(2_000_000..2_000_000, *b"inserted");
    place.write("large", &large);
    let report = place.rsync().send().unwrap().targets.remove(0);
    assert!(report.sent < 100_000 && report.reused > 2_900_000, "{report:?}");
    place.assert_same();
}

#[test]
fn a_worker_on_this_machine_copies_large_files_itself() {
    let place = Place::at(HERE);
    place.write("large", noise(3_000_000));
    place.write("small", "small");
    fs::set_permissions(place.source("large"), fs::Permissions::from_mode(0o640)).unwrap();
    set_time(&place.source("large"), 1_000_000_000);
    let report = place.rsync().send().unwrap().targets.remove(0);
    assert_eq!((report.files, report.sent, report.copied), (2, 5, 3_000_000));
    place.assert_same();

    let mut large = noise(3_000_000);
    large[1_234_567] ^= 1;
    place.write("large", &large);
    let report = place.rsync().send().unwrap().targets.remove(0);
    assert_eq!((report.files, report.sent, report.reused, report.copied), (1, 0, 0, 3_000_000));
    place.assert_same();
    assert_eq!(place.rsync().send().unwrap().targets[0].files, 0);
}

#[test]
fn kinds_change_into_each_other() {
    let place = Place::new();
    place.write("to directory", "file");
    place.write("to file/with/content", "x");
    place.write("to link", "file");
    symlink("elsewhere", place.source("from link")).unwrap();
    place.write("directory to link/with/content", "x");
    symlink("to link", place.source("link to directory")).unwrap();
    place.rsync().send().unwrap();
    place.assert_same();

    fs::remove_file(place.source("to directory")).unwrap();
    place.write("to directory/inside", "new");
    fs::remove_dir_all(place.source("to file")).unwrap();
    place.write("to file", "now a file");
    fs::remove_file(place.source("to link")).unwrap();
    symlink("to file", place.source("to link")).unwrap();
    fs::remove_file(place.source("from link")).unwrap();
    place.write("from link", "now a file");
    fs::remove_dir_all(place.source("directory to link")).unwrap();
    symlink("to directory", place.source("directory to link")).unwrap();
    fs::remove_file(place.source("link to directory")).unwrap();
    place.write("link to directory/inside", "new");
    place.rsync().send().unwrap();
    place.assert_same();
}

#[test]
fn what_is_not_in_the_source_stays_unless_it_is_mirrored() {
    let place = Place::new();
    place.write("kept/file", "x");
    place.rsync().send().unwrap();
    fs::create_dir_all(place.there("kept/extra/deep")).unwrap();
    fs::write(place.there("kept/extra/deep/file"), "x").unwrap();
    fs::set_permissions(place.there("kept/extra/deep"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::write(place.there("stray"), "x").unwrap();
    let outside = place.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    symlink(&outside, place.there("way out")).unwrap();

    assert_eq!(place.rsync().send().unwrap().targets[0].deleted, 0);
    assert!(place.there("kept/extra/deep/file").exists() && place.there("stray").exists());
    assert_eq!(place.mirror().send().unwrap().targets[0].deleted, 3);
    place.assert_same();
    assert!(outside.join("precious").exists());
}

#[test]
fn links_into_the_source_lead_into_the_destination() {
    let place = Place::new();
    place.write("folder/file", "x");
    symlink(place.source("folder/file"), place.source("inner")).unwrap();
    symlink("/etc/hostname", place.source("outer")).unwrap();
    symlink("../../up", place.source("folder/up")).unwrap();
    let sneaky = format!("{}/../sneaky", place.source("folder").display());
    symlink(&sneaky, place.source("sneaky")).unwrap();
    place.rsync().send().unwrap();
    let link = |name: &str| fs::read_link(place.there(name)).unwrap();
    assert_eq!(link("inner"), place.there("folder/file"));
    assert_eq!(link("outer"), Path::new("/etc/hostname"));
    assert_eq!(link("folder/up"), Path::new("../../up"));
    assert_eq!(link("sneaky"), Path::new(&sneaky));
    assert_eq!(fs::read_to_string(place.there("inner")).unwrap(), "x");
}

#[test]
fn a_link_in_the_place_of_a_directory_is_not_followed() {
    let place = Place::new();
    place.write("folder/file", "new");
    let outside = place.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    fs::create_dir_all(place.there("")).unwrap();
    symlink(&outside, place.there("folder")).unwrap();
    place.mirror().send().unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
    place.assert_same();
}

#[test]
fn one_file_is_a_source_too() {
    let place = Place::new();
    place.write("file", "alone");
    let there = place.folder.path().join("new/folder/renamed");
    let report = Rsync::new(place.source("file")).to(&place.gateway, &there).send().unwrap();
    assert_eq!((report.targets[0].files, fs::read_to_string(&there).unwrap().as_str()), (1, "alone"));

    let folder = place.folder.path().join("new/folder");
    let found = failures(Rsync::new(place.source("file")).mirror_to(&place.gateway, &folder).send());
    assert!(found[0].1.contains("the destination is a directory"), "{found:?}");
    assert!(there.exists());
}

#[test]
fn many_targets_get_the_same() {
    let place = Place::new();
    place.write("a/b", noise(200_000));
    place.write("c", "c");
    let group = Group::new();
    let gateways = group.make_gateways([ELSEWHERE, HERE, ELSEWHERE, HERE]).unwrap();
    let folders: Vec<PathBuf> = (0..4).map(|n| place.folder.path().join(format!("target {n}"))).collect();
    let rsync =
        gateways.iter().zip(&folders).fold(Rsync::new(place.source("")), |rsync, (g, f)| rsync.to(g, f));
    let report = rsync.send().unwrap();
    let expected = [(200_001, 0), (1, 200_000), (200_001, 0), (1, 200_000)];
    for (target, (sent, copied)) in report.targets.iter().zip(expected) {
        assert_eq!((target.files, target.sent, target.copied), (2, sent, copied));
    }
    folders.iter().for_each(|folder| assert_eq!(tree(folder), tree(&place.source(""))));
}

#[test]
fn a_lost_target_is_told_and_the_others_are_served() {
    let place = Place::new();
    place.write("file", noise(2_000_000));
    let group = Group::new();
    let gateways = group.make_gateways(["popen"; 2]).unwrap();
    gateways[0].kill();
    let there = [place.folder.path().join("lost"), place.folder.path().join("served")];
    let rsync = Rsync::new(place.source("")).to(&gateways[0], &there[0]).to(&gateways[1], &there[1]);
    match rsync.send() {
        Err(RsyncError::Incomplete { report, failures }) => {
            assert_eq!(failures.len(), 1);
            assert_eq!(failures[0].gateway.as_deref(), Some(gateways[0].id()));
            assert_eq!((report.targets[0].files, report.targets[1].files), (0, 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(tree(&there[1]), tree(&place.source("")));
}

/// Does something whenever an event comes; wants what its filter wants.
struct Acts<W, E>(W, E);

impl<W: FnMut(&Path) -> bool, E: FnMut(RsyncEvent<'_>) -> Result<(), Stop>> Observer for Acts<W, E> {
    fn wants(&mut self, path: &Path) -> Result<bool, Stop> {
        Ok(self.0(path))
    }

    fn event(&mut self, _target: usize, _channel: &Channel, event: RsyncEvent<'_>) -> Result<(), Stop> {
        self.1(event)
    }
}

#[test]
fn the_observer_chooses_and_is_told() {
    let place = Place::new();
    place.write("wanted/file", "12345");
    place.write("unwanted/file", "x");
    place.write("wanted/not", "x");
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    let mut observer = Acts(
        |path: &Path| {
            asked.push(path.to_owned());
            !path.ends_with("unwanted") && !path.ends_with("not")
        },
        |event: RsyncEvent<'_>| {
            told.push(format!("{event:?}"));
            Ok(())
        },
    );
    place.rsync().send_with(&mut observer, &Wait::forever()).unwrap();
    assert_eq!(asked, ["unwanted", "wanted", "wanted/file", "wanted/not"].map(|name| place.source(name)));
    let expected = [
        "Listed { bytes: 5 }",
        r#"Sending { path: "wanted/file" }"#,
        r#"Done { path: "wanted/file", bytes: 5 }"#,
        "Finished",
    ];
    assert_eq!(told, expected);
    assert_eq!(tree(&place.there("")).len(), 2);
}

#[test]
fn stopping_leaves_no_part_of_a_file() {
    let place = Place::new();
    place.write("large", noise(30_000_000));
    let mut stops = Acts(
        |_: &Path| true,
        |event: RsyncEvent<'_>| match event {
            RsyncEvent::Sending { .. } => Err(Stop),
            _ => Ok(()),
        },
    );
    let result = place.rsync().send_with(&mut stops, &Wait::forever());
    assert!(matches!(result, Err(RsyncError::Stopped)), "{result:?}");
    let result = place.rsync().send_with(&mut (), &Wait::at_most(Duration::ZERO));
    assert!(matches!(result, Err(RsyncError::Wait(WaitError::Timeout))), "{result:?}");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !tree(&place.there("")).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", tree(&place.there("")));
        std::thread::sleep(Duration::from_millis(10));
    }
    place.rsync().send().unwrap();
    place.assert_same();
}

#[test]
fn a_file_that_vanishes_or_becomes_something_else_is_told() {
    let place = Place::new();
    place.write("a large one", noise(5_000_000));
    place.write("changes", "x");
    place.write("vanishes", "x");
    let (changes, vanishes) = (place.source("changes"), place.source("vanishes"));
    place.write("zz", "the last to be looked at");
    let mut observer = Acts(
        |path: &Path| {
            if path.ends_with("zz") {
                fs::remove_file(&vanishes).unwrap();
                fs::remove_file(&changes).unwrap();
                symlink("/etc/passwd", &changes).unwrap();
            }
            true
        },
        |_: RsyncEvent<'_>| Ok(()),
    );
    let found = failures(place.rsync().send_with(&mut observer, &Wait::forever()));
    let names: Vec<&Path> = found.iter().map(|(path, _)| path.as_path()).collect();
    assert_eq!(names, [Path::new("changes"), Path::new("vanishes")]);
    assert!(found[1].1.contains("No such file"), "{found:?}");
    assert_eq!(tree(&place.there("")).len(), 2);
}

#[test]
fn bad_sources_are_refused_before_anything_is_sent() {
    let place = Place::new();
    let result = Rsync::new(place.source("")).send();
    assert!(matches!(result, Err(RsyncError::NoTargets)), "{result:?}");
    let result = Rsync::new(place.source("missing")).to(&place.gateway, place.there("")).send();
    assert!(matches!(result, Err(RsyncError::Source { .. })), "{result:?}");
    let _socket = std::os::unix::net::UnixListener::bind(place.source("socket")).unwrap();
    let error = place.rsync().send().unwrap_err().to_string();
    assert!(error.contains("socket` ") || error.contains("socket`:"), "{error}");
    assert!(!place.there("").exists());
}

#[test]
fn a_destination_that_cannot_be_is_told() {
    let place = Place::new();
    place.write("file", "x");
    let taken = place.folder.path().join("taken");
    fs::write(&taken, "precious").unwrap();
    let found = failures(Rsync::new(place.source("")).to(&place.gateway, &taken).send());
    assert_eq!(found, [(PathBuf::new(), "the destination exists and is not a directory".to_owned())]);
    let found = failures(Rsync::new(place.source("")).to(&place.gateway, taken.join("below")).send());
    assert_eq!(found, [(PathBuf::new(), "Not a directory".to_owned())]);
    assert_eq!(fs::read_to_string(&taken).unwrap(), "precious");
}
