//! The matrix's rows and columns: who stands where, and what a filter leaves.

use std::collections::BTreeSet;

use signalbox_api::cell::CellKey;
use signalbox_api::flow::Protocol;
use signalbox_api::state::EndpointKind;

use super::directory::Directory;

/// A group of columns under one heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Services.
    Services,
    /// Hosts outside the cluster.
    Outside,
    /// Pods by their own address.
    Pods,
}

impl Group {
    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Outside => "Outside",
            Self::Pods => "Pods by address",
        }
    }

    const fn of(kind: EndpointKind) -> Self {
        match kind {
            EndpointKind::Service => Self::Services,
            EndpointKind::Outside => Self::Outside,
            EndpointKind::Pod => Self::Pods,
        }
    }
}

/// One column: a port of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// Its group.
    pub group: Group,
    /// The endpoint's id.
    pub to: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Namespace, or `outside`.
    pub place: String,
    /// Name without namespace.
    pub name: String,
}

impl Column {
    /// The cell of a row in this column.
    pub fn key(&self, from: &str) -> CellKey {
        CellKey { from: from.to_owned(), to: self.to.clone(), port: self.port, protocol: self.protocol }
    }
}

/// One row: who connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The endpoint's id.
    pub from: String,
    /// Namespace, or `outside`.
    pub place: String,
    /// Name without namespace.
    pub name: String,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Rows and columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Sources, downwards.
    pub rows: Vec<Row>,
    /// Destinations, across, group by group.
    pub columns: Vec<Column>,
}

impl Grid {
    /// Groups with their number of columns, in order.
    pub fn groups(&self) -> Vec<(Group, usize)> {
        let mut groups: Vec<(Group, usize)> = Vec::new();
        for column in &self.columns {
            match groups.last_mut() {
                Some((group, n)) if *group == column.group => *n += 1,
                _ => groups.push((column.group, 1)),
            }
        }
        groups
    }
}

/// What the reader asked to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Pods as columns of their own.
    pub pods: bool,
    /// Words that a row's or column's name or namespace contains. `a > b`: rows with a, columns with b.
    pub filter: String,
}

/// Which cells there are, as rows and columns.
pub fn grid<'a>(directory: &Directory, keys: impl Iterator<Item = &'a CellKey>, wish: &Wish) -> Grid {
    let mut from = BTreeSet::new();
    let mut to = BTreeSet::new();
    for key in keys {
        from.insert(key.from.as_str());
        to.insert((key.to.as_str(), key.port, key.protocol));
    }
    // A vantage point that has no cells yet is a row all the same: it is about to be tried.
    from.extend(directory.iter().filter(|endpoint| endpoint.vantage).map(|endpoint| endpoint.id.as_str()));

    let mut rows: Vec<Row> = from.into_iter().map(|id| row(directory, id)).collect();
    rows.sort_by_cached_key(|row| (row.place == "outside", row.place.clone(), row.name.clone(), row.from.clone()));

    let mut columns: Vec<Column> =
        to.into_iter().map(|(id, port, protocol)| column(directory, id, port, protocol)).collect();
    columns.sort_by_cached_key(|c| (c.group, c.place.clone(), c.name.clone(), c.to.clone(), c.port, c.protocol));
    let services = columns.iter().any(|column| column.group == Group::Services);
    if services && !wish.pods {
        columns.retain(|column| column.group != Group::Pods);
    }
    let (row_words, column_words) = words(&wish.filter);
    match column_words {
        Some(column_words) => {
            rows.retain(|row| fits(&row_words, &row.place, &row.name));
            columns.retain(|column| fits(&column_words, &column.place, &column.name));
        }
        // One word for both: what it names, as source with everything across, or as destination with everything down.
        None => {
            let row_hits = rows.iter().any(|row| fits(&row_words, &row.place, &row.name));
            let column_hits = columns.iter().any(|column| fits(&row_words, &column.place, &column.name));
            match (row_hits, column_hits) {
                (true, _) => rows.retain(|row| fits(&row_words, &row.place, &row.name)),
                (false, true) => columns.retain(|column| fits(&row_words, &column.place, &column.name)),
                (false, false) => rows.clear(),
            }
        }
    }
    Grid { rows, columns }
}

fn row(directory: &Directory, id: &str) -> Row {
    let problem = directory.get(id).and_then(|endpoint| endpoint.problem.clone());
    Row { from: id.to_owned(), place: directory.place(id), name: directory.short(id), problem }
}

fn column(directory: &Directory, id: &str, port: u16, protocol: Protocol) -> Column {
    let kind = directory.get(id).map_or_else(|| kind_by_id(id), |endpoint| endpoint.kind);
    Column {
        group: Group::of(kind),
        to: id.to_owned(),
        port,
        protocol,
        place: directory.place(id),
        name: directory.short(id),
    }
}

fn kind_by_id(id: &str) -> EndpointKind {
    match id.split_once(':').map(|(kind, _)| kind) {
        Some("service") => EndpointKind::Service,
        Some("outside") => EndpointKind::Outside,
        _ => EndpointKind::Pod,
    }
}

/// A filter's words, for rows and where it says so for columns apart.
pub(crate) fn words(filter: &str) -> (Vec<String>, Option<Vec<String>>) {
    let split = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    match filter.split_once(['>', '→']) {
        Some((rows, columns)) => (split(rows), Some(split(columns))),
        None => (split(filter), None),
    }
}

/// Whether a place and name have all of these words.
pub(crate) fn fits(words: &[String], place: &str, name: &str) -> bool {
    let full = format!("{place}/{name}").to_lowercase();
    words.iter().all(|word| full.contains(word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use std::sync::Arc;

    fn names(wish: &Wish) -> (Vec<String>, Vec<String>) {
        let snapshot = sample::wide_open();
        let directory = Directory::new(Arc::new(snapshot.endpoints));
        let grid = grid(&directory, snapshot.cells.iter().map(|cell| &cell.key), wish);
        let rows = grid.rows.iter().map(|row| format!("{}/{}", row.place, row.name)).collect();
        let columns = grid.columns.iter().map(|column| format!("{}:{}", column.name, column.port)).collect();
        (rows, columns)
    }

    #[test]
    fn services_then_outside_and_pods_only_when_asked_for() {
        let (rows, columns) = names(&Wish::default());
        assert_eq!(rows, ["backend/dbsvc", "backend/extsvc", "frontend/web", "outside/users"]);
        assert_eq!(columns, ["dbsvc:9000", "extsvc:9000", "web:9000", "database:3306", "internet:80", "internet:443"]);

        let (_, columns) = names(&Wish { pods: true, filter: String::new() });
        assert_eq!(columns.len(), 9);
    }

    #[test]
    fn the_filter_reads_namespaces_names_and_both_sides() {
        let by = |filter: &str| names(&Wish { pods: false, filter: filter.to_owned() });
        assert_eq!(by("Frontend").0, ["frontend/web"]);
        assert_eq!(by("Frontend").1.len(), 6);
        assert_eq!(by("internet"), (names(&Wish::default()).0, vec!["internet:80".into(), "internet:443".into()]));
        assert_eq!(
            by("back > database"),
            (vec!["backend/dbsvc".into(), "backend/extsvc".into()], vec!["database:3306".into()])
        );
        assert!(by("nobody").0.is_empty());
        assert_eq!(by("> web").0.len(), 4);
    }

    #[test]
    fn groups_are_counted() {
        let snapshot = sample::wide_open();
        let directory = Directory::new(Arc::new(snapshot.endpoints));
        let grid = grid(&directory, snapshot.cells.iter().map(|cell| &cell.key), &Wish::default());
        assert_eq!(grid.groups(), [(Group::Services, 3), (Group::Outside, 3)]);
    }
}
