//! Tables as every command prints them: aligned columns, no frame, so that they can be read by
//! people and cut by `awk`.

use comfy_table::{CellAlignment, Table, presets};

/// A table with `headers`; the columns at `right` are aligned to the right (figures).
pub(crate) fn table(headers: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headers.iter().copied());
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `table` as text, without blanks at the ends of lines.
pub(crate) fn render(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
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
        assert_eq!(render(&t), " node     lag\n us-1       7\n asia-1  1200\n");
    }
}
