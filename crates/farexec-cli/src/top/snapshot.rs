//! What a program tells of itself, and what follows from two such tellings: what went over each gateway meanwhile, and what its worker did.

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
    number("items/s", |row| row.a_second(|growth| growth.items).map_or(Cell::Nothing, Cell::Number)),
    number("bytes/s", |row| row.a_second(|growth| growth.bytes).map_or(Cell::Nothing, Cell::Bytes)),
    text("why it ended", |row| row.text("reason")),
];

const fn text(name: &'static str, cell: fn(&Row) -> Cell) -> Column {
    Column { name, is_number: false, cell }
}

const fn number(name: &'static str, cell: fn(&Row) -> Cell) -> Column {
    Column { name, is_number: true, cell }
}

/// What a worker can be at, as far as it can be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It has not answered yet.
    Starting,
    /// Nothing is open.
    Idle,
    /// A channel is open, over which nothing went: it computes, or waits.
    Open,
    /// It has tasks to answer, or items went over its channels.
    Busy,
    Ended,
}

/// A gateway.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What it is known by, from telling to telling: its group and its id.
    key: String,
    name: String,
    told: Json,
    /// `None` of a worker that was not there before.
    growth: Option<Growth>,
    /// Items of a map that gave a result since the telling before, and those that raised.
    answered: [u64; 2],
}

/// What went over a gateway both ways between two tellings.
#[derive(Clone, Copy, Debug)]
struct Growth {
    items: u64,
    bytes: u64,
    seconds: f64,
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
        let seconds = told["seconds"].as_f64().unwrap_or(0.0) - self.seconds();
        let is_first = self.last.is_null();
        let before: HashMap<String, Row> = self.rows.drain(..).map(|row| (row.key.clone(), row)).collect();
        let no_groups = Vec::new();
        let groups = told["groups"].as_array().unwrap_or(&no_groups);
        for group in groups {
            for gateway in group["gateways"].as_array().into_iter().flatten() {
                let id = gateway["id"].as_str().unwrap_or_default();
                // Groups number their gateways each for itself.
                let key = format!("{}:{id}", group["group"]);
                let name = if groups.len() > 1 { key.clone() } else { id.to_owned() };
                let before =
                    before.get(&key).map(|row| &row.told).filter(|told| told["pid"] == gateway["pid"]);
                let growth = before.filter(|_| seconds > 0.0).and_then(|told| growth(told, gateway, seconds));
                // What was done before anybody looked was done nobody knows when.
                let answered = ["done", "failed"].map(|key| match (is_first, before) {
                    (true, _) => 0,
                    (false, told) => added(told.map(|told| &told[key]), &gateway[key]),
                });
                self.rows.push(Row { key, name, told: gateway.clone(), growth, answered });
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
            Cell::Text(text) => (0, by_number(&text)),
            Cell::Number(number) | Cell::Bytes(number) => (number, Vec::new()),
            Cell::Nothing => (0, Vec::new()),
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

    /// How long the program had told when it told this, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.last["seconds"].as_f64().unwrap_or(0.0)
    }

    /// Why the last worker ended that was replaced.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last["groups"].as_array()?.iter().rev().find_map(|group| group["last_error"].as_str())
    }
}

/// By what a text is sorted, so that `gw2` comes before `gw10`: its words, each with how long the number behind it is, and the number.
fn by_number(text: &str) -> Vec<(String, usize, String)> {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(is_digit).unwrap_or(rest.len()));
        let (number, after) = after.split_at(after.find(|c| !is_digit(c)).unwrap_or(after.len()));
        let number = number.trim_start_matches('0');
        parts.push((word.to_owned(), number.len(), number.to_owned()));
        rest = after;
    }
    parts
}

/// What went over a gateway between two tellings. `None` of one that is starting.
fn growth(before: &Json, now: &Json, seconds: f64) -> Option<Growth> {
    let grown = |ways: [&str; 2]| -> Option<u64> {
        let sum = |told: &Json| -> Option<u64> {
            Some(told[ways[0]].as_u64()?.saturating_add(told[ways[1]].as_u64()?))
        };
        Some(sum(now)?.saturating_sub(sum(before)?))
    };
    Some(Growth {
        items: grown(["items_sent", "items_received"])?,
        bytes: grown(["bytes_sent", "bytes_received"])?,
        seconds,
    })
}

/// By how much a count grew that begins anew with each map.
fn added(before: Option<&Json>, now: &Json) -> u64 {
    let now = now.as_u64().unwrap_or(0);
    let before = before.and_then(Json::as_u64).unwrap_or(0);
    now.checked_sub(before).unwrap_or(now)
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

    /// What it is known by, from telling to telling.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Items of a map that gave a result since the telling before, and those that raised.
    pub(super) fn answered(&self) -> [u64; 2] {
        self.answered
    }

    /// What its worker was at since the telling before.
    pub(super) fn activity(&self) -> Activity {
        let is_some = |key: &str| self.number(key).is_some_and(|number| number > 0);
        match self.state() {
            "starting" => Activity::Starting,
            "ended" => Activity::Ended,
            _ if is_some("tasks") || self.growth.is_some_and(|growth| growth.items > 0) => Activity::Busy,
            _ if is_some("channels") => Activity::Open,
            _ => Activity::Idle,
        }
    }

    /// How much of something goes over it in a second.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "it is for people, and not negative"
    )]
    fn a_second(&self, what: fn(Growth) -> u64) -> Option<u64> {
        self.growth.map(|growth| (what(growth) as f64 / growth.seconds).round() as u64)
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
    fn what_a_worker_did_is_told_from_its_counts() -> Result<(), Failure> {
        let told = |pid: u32, tasks: u32, done: u32, failed: u32| {
            let gateway = serde_json::json!({
                "id": "gw0", "state": "running", "pid": pid, "channels": 1, "tasks": tasks, "done": done, "failed": failed,
            });
            serde_json::json!({"groups": [{"group": 0, "gateways": [gateway]}]}).to_string()
        };
        let mut history = History::default();
        for (line, activity, answered) in [
            // Nobody knows when these five were done.
            (told(1, 1, 5, 1), Activity::Busy, [0, 0]),
            (told(1, 0, 8, 2), Activity::Open, [3, 1]),
            // Another map.
            (told(1, 2, 4, 0), Activity::Busy, [4, 0]),
            // Another worker.
            (told(2, 2, 6, 1), Activity::Busy, [6, 1]),
        ] {
            history.take(&line)?;
            assert_eq!(
                (history.rows()[0].activity(), history.rows()[0].answered()),
                (activity, answered),
                "{line}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_gateway_is_the_same_when_another_group_comes() -> Result<(), Failure> {
        let mut history = History::default();
        history.take(&told(10, 7, 100))?;
        let mut two: Json = serde_json::from_str(&told(12, 7, 300)).unwrap_or_default();
        if let Some(groups) = two["groups"].as_array_mut() {
            groups.push(serde_json::json!({"group": 1, "gateways": []}));
        }
        history.take(&two.to_string())?;
        assert_eq!((cells(&history)[0].as_str(), cells(&history)[7].as_str()), ("0:gw0", "100"));
        Ok(())
    }

    #[test]
    fn names_are_sorted_by_the_numbers_in_them() {
        let sorted =
            ["", "1:gw0", "10:gw0", "gw", "gw0", "gw2", "gw2-1a", "gw2-12", "gw010", "gw11", "web01"];
        assert!(sorted.is_sorted_by_key(|name| by_number(name)));
        assert!(["gw10", "gw2"].iter().rev().is_sorted_by_key(|name| by_number(name)));
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        assert!(History::default().take("{").is_err());
    }
}
