//! Rsync and run: a tree of files is sent to each worker, and a program of that tree is executed there. When a file changes, the next run
//! sends only what changed.
//!
//! `cargo run --example rsync_and_run`

use std::fs;
use std::time::Duration;

use farexec::{Group, Rsync, Source};

/// Imports from the tree where it was sent to, as a program that lies there would.
const RUN: &str = "
    import sys
    sys.path.insert(0, tree)
    import greeting
    channel.send(greeting.text())
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("project");
    fs::create_dir(&source)?;
    fs::write(source.join("greeting.py"), "import words\ndef text(): return 'hello, ' + words.WHOM\n")?;
    fs::write(source.join("words.py"), "WHOM = 'world'\n")?;

    println!("{:?}", run(&folder, &source)?);
    fs::write(source.join("words.py"), "WHOM = 'everybody'\n")?;
    let (files, answers) = run(&folder, &source)?;
    println!("{:?}", (&files, &answers));
    assert_eq!((files, answers), (vec![1, 1], vec!["hello, everybody".to_owned(); 2]));
    Ok(())
}

/// How many files each worker was sent, and what the program said there.
fn run(
    folder: &tempfile::TempDir,
    source: &std::path::Path,
) -> Result<(Vec<u64>, Vec<String>), Box<dyn std::error::Error>> {
    let group = Group::new();
    let gateways = group.make_gateways(["popen//id=first", "popen//id=second"])?;
    let place = |id: &str| folder.path().join(id);

    // All targets at once; a tree that is to have nothing else is mirrored.
    let rsync = gateways
        .iter()
        .fold(Rsync::new(source), |rsync, gateway| rsync.mirror_to(gateway, place(gateway.id())));
    let files = rsync.send()?.targets.iter().map(|target| target.files).collect();

    let mut answers = Vec::new();
    for gateway in &gateways {
        let tree = place(gateway.id()).display().to_string();
        answers.push(gateway.remote_exec(Source::text(RUN).with("tree", tree.as_str()))?.receive()?);
    }
    group.terminate(Duration::from_secs(5))?;
    Ok((files, answers))
}
