//! `--dry-run`: which workers there would be, and how each would be started.

use farexec::Spec;
use serde_json::json;

use crate::exit::{self, Failure};
use crate::screen::Screen;
use crate::table::Table;

/// Shows the specs, with the ids of their gateways and the command of each; starts nothing.
pub(crate) fn show(specs: &[Spec], screen: &Screen) -> Result<u8, Failure> {
    let mut table = Table::new(&["gateway", "spec", "command"]);
    for spec in specs {
        let command = spec.command_line()?;
        let id = spec.id.as_deref().unwrap_or_default();
        table.row(json!({ "gateway": id, "spec": spec.as_str(), "command": command.trim_matches('`') }));
    }
    table.show(screen)?;
    Ok(exit::DONE)
}
