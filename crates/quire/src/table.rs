//! Tables as every command prints them: aligned columns, no frame, so that they can be read by
//! people and cut by `awk`. Pure: what it gives is text.

use anstyle::Style;

/// Rows below headers. A row may have fewer cells than there are headers.
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    /// Columns that are aligned to the right.
    right: Vec<usize>,
}

/// What stands in one place.
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell {
            text: text.into(),
            style: None,
        }
    }
}

impl Cell {
    /// `text`, in `style` if there is one.
    pub(crate) fn styled(text: impl Into<String>, style: Option<Style>) -> Self {
        Cell {
            text: text.into(),
            style,
        }
    }

    /// On a screen.
    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn shown(&self) -> String {
        match self.style {
            Some(style) => format!("{style}{}{style:#}", self.text),
            None => self.text.clone(),
        }
    }
}

/// A table with `headers`; the columns at `right` are aligned to the right (figures).
pub(crate) fn table(headers: &[&str], right: &[usize]) -> Table {
    Table {
        rows: vec![headers.iter().map(|header| (*header).into()).collect()],
        right: right.to_vec(),
    }
}

impl Table {
    pub(crate) fn add_row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// `table` as text: a blank before each column, two between them, none at the ends of lines.
pub(crate) fn render(table: &Table) -> String {
    let columns = table.rows.iter().map(Vec::len).max().unwrap_or(0);
    let width_of = |column: usize| {
        let cells = table.rows.iter().filter_map(|row| row.get(column));
        cells.map(Cell::width).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width_of).collect();
    let mut text = String::new();
    for row in &table.rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let blank = " ".repeat(widths[column] - cell.width());
            line.push_str(if column == 0 { " " } else { "  " });
            if table.right.contains(&column) {
                line.push_str(&blank);
                line.push_str(&cell.shown());
            } else {
                line.push_str(&cell.shown());
                line.push_str(&blank);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_to_the_right_and_lines_end_where_their_text_does() {
        let mut t = table(&["node", "lag"], &[1]);
        t.add_row(["us-1", "7"]);
        t.add_row(["asia-1", "1200"]);
        t.add_row(["eu-1"]);
        assert_eq!(
            render(&t),
            " node     lag\n us-1       7\n asia-1  1200\n eu-1\n"
        );
    }

    #[test]
    fn a_style_takes_no_room() {
        let style = Some(anstyle::AnsiColor::Red.on_default());
        let mut t = table(&["state", "pid"], &[]);
        t.add_row([Cell::styled("down", style), "-".into()]);
        assert_eq!(render(&t), " state  pid\n \u{1b}[31mdown\u{1b}[0m   -\n");
    }
}
