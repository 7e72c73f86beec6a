//! A table for people: columns as wide as their widest cell.

use super::failure::one_line;
use std::fmt;

/// Rows of cells under a heading.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub(super) fn new(heading: &[&str]) -> Table {
        let mut table = Table { rows: Vec::new() };
        table.row(heading);
        table
    }

    /// Adds a row. What a cell holds may come from anywhere: control characters are escaped.
    pub(super) fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|cell| one_line(cell)).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let width = *width;
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(&["NAME", "KV"]);
        table.row(&["caf\u{e9}-with-a-name", "yes"]);
        table.row(&["b\n", ""]);
        let expected = "NAME              KV\ncaf\u{e9}-with-a-name  yes\nb\\n\n";
        assert_eq!(table.to_string(), expected);
    }
}
