//! The folder for temporary files that all commands of one run get, and what no step may leave: files in it, and processes that know of it.
//!
//! Tests of the Python package look after each test (tests/leftovers.py); this is for all the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};

/// Processes end after those who wait for them have been told.
const PATIENCE: Duration = Duration::from_secs(10);

/// A folder that is there for one run. Its path is short: sockets are made in it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn make() -> Result<Self> {
        // A run that was killed has left its own.
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
        let folder = std::env::temp_dir().join(format!("fx{}-{moment:x}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Fails if something of a step is still there.
    pub(crate) fn expect_nothing(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = [self.files()?, self.processes()].concat();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("it left behind:\n{}", left.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn files(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            // pytest keeps the folders of its last runs.
            if !entry.file_name().to_string_lossy().starts_with("pytest-of-") {
                left.push(entry.path().display().to_string());
            }
        }
        Ok(left)
    }

    /// Those whose environment names the folder. On systems without `/proc` nothing is known of them.
    fn processes(&self) -> Vec<String> {
        let variable = format!("TMPDIR={}", self.0.display());
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let described = processes.filter_map(|entry| {
            let folder = entry.ok()?.path();
            let environment = fs::read(folder.join("environ")).ok()?;
            let is_ours =
                environment.split(|byte| *byte == 0).any(|one| one.starts_with(variable.as_bytes()));
            let command = fs::read(folder.join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let number = folder.file_name()?.to_string_lossy().into_owned();
            let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            is_ours.then(|| format!("process {number} ({}): {command:.200}", name.trim()))
        });
        described.collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
