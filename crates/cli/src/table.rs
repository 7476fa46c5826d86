//! Aligned columns without lines.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

/// Rows under a header; columns three spaces apart, nothing wrapped.
pub fn render<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.to_vec());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let rows = [["a", "1"], ["longer", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(render(["NAME", "N"], rows), "NAME     N\na        1\nlonger");
    }
}
