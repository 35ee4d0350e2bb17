//! Tables for people.

/// Rows under a head, each column as wide as its widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With the names of its columns.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it; nothing where it has no rows.
    pub fn print(&self) {
        if self.rows.len() > 1 {
            anstream::print!("{}", self.text());
        }
    }

    /// The same with an empty line before.
    pub fn print_apart(&self) {
        if self.rows.len() > 1 {
            anstream::print!("\n{}", self.text());
        }
    }

    fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width - cell.chars().count() + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A pod's name, or the address.
pub fn who(pod: Option<&String>, address: std::net::SocketAddr) -> String {
    let address = match address.port() {
        0 => address.ip().to_string(),
        _ => address.to_string(),
    };
    pod.map_or_else(|| address.clone(), |pod| format!("{pod} ({address})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(["wide cell".to_owned(), "x".to_owned()]);
        table.row(["ü".to_owned(), String::new()]);
        assert_eq!(table.text(), "A          LONG\nwide cell  x\nü\n");
    }
}
