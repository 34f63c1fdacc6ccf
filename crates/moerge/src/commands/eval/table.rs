//! A table in which the best of a column is in bold, for terminals and model cards.

use moerge_core::output::card::markdown_table;

use crate::terminal::{DIM, LABEL, one_line, styled, table};

/// A table, independent of where it is drawn: on a terminal or in a model card.
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Row>,
}

pub struct Row {
    pub name: String,
    pub cells: Vec<Cell>,
    /// Whether it describes the columns rather than a model.
    pub note: bool,
}

pub struct Cell {
    pub text: String,
    /// Whether it is the best of its column.
    pub best: bool,
}

/// The tables as lines for a terminal, an empty one between them.
pub fn lines(tables: &[Table]) -> Vec<String> {
    tables.iter().map(Table::lines).collect::<Vec<_>>().join(&String::new())
}

/// The tables as Markdown, with an empty line after each.
pub fn markdown(tables: &[Table]) -> String {
    tables.iter().map(|table| format!("{}\n", table.markdown())).collect()
}

impl Table {
    fn lines(&self) -> Vec<String> {
        let mut header: Vec<String> = self.header.iter().map(|text| one_line(text)).collect();
        if let Some(first) = header.first_mut() {
            *first = styled(LABEL, first);
        }
        let row = |row: &Row| {
            let note = |text: &str| if row.note && !text.is_empty() { styled(DIM, text) } else { text.to_owned() };
            let cell = |cell: &Cell| if cell.best { styled(LABEL, &cell.text) } else { note(&cell.text) };
            std::iter::once(note(&one_line(&row.name))).chain(row.cells.iter().map(cell)).collect()
        };
        let rows: Vec<Vec<String>> = std::iter::once(header).chain(self.rows.iter().map(row)).collect();
        table(&rows, &(1..self.header.len()).collect::<Vec<_>>())
    }

    fn markdown(&self) -> String {
        let header = self.header.iter().map(|text| (text.clone(), false)).collect();
        let row = |row: &Row| {
            let cells = row.cells.iter().map(|cell| (cell.text.clone(), cell.best));
            std::iter::once((row.name.clone(), false)).chain(cells).collect()
        };
        markdown_table(&std::iter::once(header).chain(self.rows.iter().map(row)).collect::<Vec<_>>())
    }
}

impl Row {
    /// A row without a best cell.
    pub fn new(name: &str, cells: impl Iterator<Item = String>, note: bool) -> Self {
        Self { name: name.to_owned(), cells: cells.map(|text| Cell { text, best: false }).collect(), note }
    }
}
