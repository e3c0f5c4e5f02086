//! The screen of `farexec top`: a line about the program, a row for each gateway, and what keys do.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row as Drawn, Table};

use super::snapshot::{COLUMNS, History};

/// What the user has chosen to see.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The column to sort by.
    pub(super) sort: usize,
    pub(super) reversed: bool,
    /// The first row that is shown.
    pub(super) first: usize,
}

pub(super) fn draw(frame: &mut Frame<'_>, history: &History, view: &View) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let colored = |color| if plain { Style::new() } else { Style::new().fg(color) };
    let [head, error, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(history.last_error().map_or(0, |_| 1)),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(history.head()).style(Style::new().bold()), head);
    if let Some(text) = history.last_error() {
        // Its end says the most, and stands in lines of its own: what the worker wrote last.
        let text = text.lines().collect::<Vec<_>>().join(" ");
        frame.render_widget(Line::from(format!("last: {text}")).style(colored(Color::Red)), error);
    }
    let rows = history.sorted(view.sort, view.reversed);
    let cells: Vec<Vec<String>> = rows.iter().map(super::Row::cells).collect();
    let widths = COLUMNS.iter().enumerate().map(|(index, column)| {
        let longest = cells.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        let width = longest.max(column.name.len() + 1);
        match index + 1 {
            last if last == COLUMNS.len() => Constraint::Fill(1),
            _ => Constraint::Length(u16::try_from(width.min(30)).unwrap_or(30)),
        }
    });
    let aligned = |index: usize, text: String| {
        let side = if COLUMNS[index].is_number { Alignment::Right } else { Alignment::Left };
        Cell::from(Text::from(text).alignment(side))
    };
    let names = COLUMNS.iter().enumerate().map(|(index, column)| {
        let mark = if index != view.sort {
            ""
        } else if view.reversed {
            "^"
        } else {
            "v"
        };
        aligned(index, format!("{}{mark}", column.name))
    });
    let drawn = rows.iter().zip(&cells).skip(view.first).map(|(row, cells)| {
        let style = match row.state() {
            "ended" => colored(Color::Red),
            "starting" => colored(Color::Yellow),
            _ => Style::new(),
        };
        Drawn::new(cells.iter().enumerate().map(|(index, cell)| aligned(index, cell.clone()))).style(style)
    });
    let table = Table::new(drawn, widths).header(Drawn::new(names).style(Style::new().reversed()));
    frame.render_widget(table, body);
    let keys = "q: end   s: sort by the next column   r: the other way round   up, down: scroll";
    frame.render_widget(Paragraph::new(keys).style(Style::new().dim()), foot);
}
