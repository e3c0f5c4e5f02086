//! What a program tells of itself, and what follows from two such tellings: how much goes over each gateway in a second.

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::exit::{self, Failure};

/// A column: what stands above it, and what it shows of a row.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) is_number: bool,
    cell: fn(&Row) -> Cell,
}

enum Cell {
    Text(String),
    Number(u64),
    /// Of bytes, shown in the unit that fits.
    Bytes(u64),
    Nothing,
}

/// What is shown of each gateway, in this order.
pub(super) const COLUMNS: [Column; 10] = [
    text("gateway", |row| Cell::Text(row.name.clone())),
    text("state", |row| row.text("state")),
    number("pid", |row| row.number("pid").map_or(Cell::Nothing, Cell::Number)),
    number("channels", |row| row.number("channels").map_or(Cell::Nothing, Cell::Number)),
    number("tasks", |row| row.number("tasks").map_or(Cell::Nothing, Cell::Number)),
    number("done", |row| row.number("done").map_or(Cell::Nothing, Cell::Number)),
    number("queued", |row| row.number("queued_bytes").map_or(Cell::Nothing, Cell::Bytes)),
    number("items/s", |row| row.rate.map_or(Cell::Nothing, |rate| Cell::Number(rate.items))),
    number("bytes/s", |row| row.rate.map_or(Cell::Nothing, |rate| Cell::Bytes(rate.bytes))),
    text("why it ended", |row| row.text("reason")),
];

const fn text(name: &'static str, cell: fn(&Row) -> Cell) -> Column {
    Column { name, is_number: false, cell }
}

const fn number(name: &'static str, cell: fn(&Row) -> Cell) -> Column {
    Column { name, is_number: true, cell }
}

/// A gateway.
#[derive(Clone, Debug)]
pub(super) struct Row {
    name: String,
    told: Json,
    rate: Option<Rate>,
}

/// What goes over it both ways, in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    items: u64,
    bytes: u64,
}

/// What was told last, and before.
#[derive(Default)]
pub(super) struct History {
    last: Json,
    rows: Vec<Row>,
    /// Whether the program tells nothing any more.
    pub(super) ended: bool,
}

impl History {
    /// Takes in a line.
    pub(super) fn take(&mut self, line: &str) -> Result<(), Failure> {
        let told: Json = serde_json::from_str(line).map_err(|error| {
            Failure::new(exit::FAILED, format!("what the program tells cannot be read: {error}"))
        })?;
        let seconds = told["seconds"].as_f64().unwrap_or(0.0) - self.last["seconds"].as_f64().unwrap_or(0.0);
        let before: HashMap<String, Row> = self.rows.drain(..).map(|row| (row.name.clone(), row)).collect();
        let no_groups = Vec::new();
        let groups = told["groups"].as_array().unwrap_or(&no_groups);
        for group in groups {
            for gateway in group["gateways"].as_array().into_iter().flatten() {
                let id = gateway["id"].as_str().unwrap_or_default();
                // Groups number their gateways each for itself.
                let name = if groups.len() > 1 { format!("{}:{id}", group["group"]) } else { id.to_owned() };
                let rate = before
                    .get(&name)
                    .filter(|row| row.told["pid"] == gateway["pid"] && seconds > 0.0)
                    .and_then(|row| rate(&row.told, gateway, seconds));
                self.rows.push(Row { name, told: gateway.clone(), rate });
            }
        }
        self.last = told;
        Ok(())
    }

    /// The gateways, as the program has them.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.rows.clone()
    }

    /// The gateways, by what is in a column.
    pub(super) fn sorted(&self, column: usize, reversed: bool) -> Vec<Row> {
        let mut rows = self.rows();
        rows.sort_by_cached_key(|row| match (COLUMNS[column].cell)(row) {
            Cell::Text(text) => (0, text),
            Cell::Number(number) | Cell::Bytes(number) => (number, String::new()),
            Cell::Nothing => (0, String::new()),
        });
        if reversed {
            rows.reverse();
        }
        rows
    }

    /// What there is to say of the program as a whole.
    pub(super) fn head(&self) -> String {
        let groups = || self.last["groups"].as_array().into_iter().flatten();
        let restarts: u64 = groups().filter_map(|group| group["restarts"].as_u64()).sum();
        let state = if self.ended { "has ended" } else { "runs" };
        format!("process {} {state}: {} gateways, {restarts} restarts", self.last["pid"], self.rows.len())
    }

    /// Why the last worker ended that was replaced.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last["groups"].as_array()?.iter().rev().find_map(|group| group["last_error"].as_str())
    }
}

/// What went over a gateway between two tellings. `None` of one that is starting.
fn rate(before: &Json, now: &Json, seconds: f64) -> Option<Rate> {
    let grown = |ways: [&str; 2]| -> Option<u64> {
        let sum = |told: &Json| -> Option<u64> {
            Some(told[ways[0]].as_u64()?.saturating_add(told[ways[1]].as_u64()?))
        };
        let grown = sum(now)?.saturating_sub(sum(before)?);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "it is for people, and not negative"
        )]
        Some((grown as f64 / seconds).round() as u64)
    };
    Some(Rate {
        items: grown(["items_sent", "items_received"])?,
        bytes: grown(["bytes_sent", "bytes_received"])?,
    })
}

/// The command line of the program that told this.
pub(super) fn command(line: &str) -> Option<String> {
    let told: Json = serde_json::from_str(line).ok()?;
    Some(told["command"].as_str()?.to_owned())
}

impl Row {
    /// What is shown of it, column by column.
    pub(super) fn cells(&self) -> Vec<String> {
        COLUMNS.iter().map(|column| (column.cell)(self).to_string()).collect()
    }

    /// Whether its worker ended as nobody wanted it to, or is not there yet.
    pub(super) fn state(&self) -> &str {
        self.told["state"].as_str().unwrap_or_default()
    }

    fn text(&self, key: &str) -> Cell {
        self.told[key].as_str().map_or(Cell::Nothing, |text| {
            // It is shown in one line, and moves no cursor.
            Cell::Text(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
        })
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.told[key].as_u64()
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => write!(f, "{}", indicatif::HumanBytes(*bytes)),
            Self::Nothing => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seconds: u32, pid: u32, sent: u32) -> String {
        let gateway = serde_json::json!({
            "id": "gw0", "state": "running", "pid": pid, "queued_bytes": 2048,
            "items_sent": sent, "items_received": 10, "bytes_sent": 1024 * sent, "bytes_received": 0,
        });
        let group = serde_json::json!({"group": 0, "restarts": 2, "last_error": null, "gateways": [gateway]});
        serde_json::json!({"pid": 1, "seconds": seconds, "groups": [group]}).to_string()
    }

    fn cells(history: &History) -> Vec<String> {
        history.rows()[0].cells()
    }

    #[test]
    fn rates_are_what_was_added_in_a_second() -> Result<(), Failure> {
        let mut history = History::default();
        history.take(&told(10, 7, 100))?;
        assert_eq!(cells(&history)[7..9], ["-", "-"]);
        history.take(&told(12, 7, 300))?;
        assert_eq!(cells(&history)[6..9], ["2.00 KiB", "100", "100.00 KiB"]);
        assert_eq!(history.head(), "process 1 runs: 1 gateways, 2 restarts");
        Ok(())
    }

    #[test]
    fn another_worker_of_the_same_name_begins_anew() -> Result<(), Failure> {
        let mut history = History::default();
        history.take(&told(10, 7, 100))?;
        history.take(&told(12, 8, 300))?;
        assert_eq!(cells(&history)[7..9], ["-", "-"]);
        Ok(())
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        assert!(History::default().take("{").is_err());
    }
}
