//! `--dry-run`: which workers there would be, and how each would be started.

use farexec::Spec;
use serde_json::json;

use crate::exit::{self, Failure};
use crate::screen::Screen;
use crate::table::Table;

/// Shows the specs, with the ids of their gateways and the command of each; starts nothing.
pub(crate) fn show(specs: &[Spec], screen: &Screen) -> Result<u8, Failure> {
    show_with(specs, None, screen)
}

/// As [`show`], with something more about each worker: its key, and its values in the order of the specs.
pub(crate) fn show_with(
    specs: &[Spec],
    more: Option<(&'static str, &[&str])>,
    screen: &Screen,
) -> Result<u8, Failure> {
    let columns = ["gateway", "spec", "command"].into_iter().chain(more.map(|(key, _)| key));
    let mut table = Table::new(columns.collect());
    for (index, spec) in specs.iter().enumerate() {
        let command = spec.command_line()?;
        let id = spec.id.as_deref().unwrap_or_default();
        let mut row = json!({ "gateway": id, "spec": spec.as_str(), "command": command.trim_matches('`') });
        if let Some((key, values)) = more {
            row[key] = json!(values.get(index));
        }
        table.row(row);
    }
    table.show(screen)?;
    Ok(exit::DONE)
}
