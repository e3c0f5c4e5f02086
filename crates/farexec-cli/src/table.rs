//! Rows of the same keys: a table for people at a terminal, JSON lines for everybody else.

use serde_json::Value as Json;

use crate::exit::Failure;
use crate::screen::Screen;

/// Rows, each a JSON object.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Json>,
}

impl Table {
    /// A table that shows these keys to people; machines get all.
    pub(crate) fn new(columns: Vec<&'static str>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, row: Json) {
        self.rows.push(row);
    }

    pub(crate) fn show(&self, screen: &Screen) -> Result<(), Failure> {
        if !screen.results_are_read() {
            self.rows.iter().try_for_each(|row| screen.result(row))?;
            return screen.flush();
        }
        self.lines().iter().try_for_each(|line| screen.result(line))?;
        screen.flush()
    }

    /// The table as people read it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let head = self.columns.iter().map(|&column| column.to_owned()).collect();
        let cells =
            self.rows.iter().map(|row| self.columns.iter().map(|column| cell(&row[*column])).collect());
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let padded = lines.iter().map(|line| {
            let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        padded.collect()
    }
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".into(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
