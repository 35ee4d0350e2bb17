//! One JSON object, written as the links come. docs/schema/analyze.json describes it.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use signalbox_policy::Family;
use signalbox_policy::analyze::Link;
use signalbox_policy::traffic::Traffic;

use super::Sink;
use crate::error::Error;
use crate::streams::Streams;
use crate::unknown::Unknowns;

#[derive(Default)]
pub(super) struct Json {
    written: usize,
}

/// The fields come in this order.
#[derive(Serialize)]
struct Connection {
    src: String,
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    ports: Ports,
}

/// Ranges by protocol; protocols without any are left out.
#[derive(Debug, PartialEq)]
pub(crate) struct Ports(pub Traffic);

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (protocol, ports) in self.0.protocols() {
            map.serialize_entry(&protocol.to_string(), ports.ranges())?;
        }
        map.end()
    }
}

impl Json {
    fn begin(&mut self, streams: &mut Streams<'_>) -> Result<(), Error> {
        streams.out.write_all(if self.written == 0 { b"{\"connections\":[\n" } else { b",\n" })?;
        self.written += 1;
        Ok(())
    }
}

impl Sink for Json {
    fn links(&mut self, links: &[Link], streams: &mut Streams<'_>) -> Result<(), Error> {
        for link in links.iter().filter(|link| !link.reach.open.is_empty()) {
            self.begin(streams)?;
            let connection = Connection {
                src: link.from.to_string(),
                dst: link.to.to_string(),
                family: link.family.map(Family::as_str),
                ports: Ports(link.reach.open.clone()),
            };
            serde_json::to_writer(&mut *streams.out, &connection).map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    fn end(&mut self, unknowns: &Unknowns, streams: &mut Streams<'_>) -> Result<(), Error> {
        let begin: &[u8] = if self.written == 0 { b"{\"connections\":[" } else { b"\n" };
        streams.out.write_all(begin)?;
        streams.out.write_all(b"],\"unknown\":[")?;
        for (index, unknown) in unknowns.iter().enumerate() {
            streams.out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut *streams.out, unknown).map_err(std::io::Error::from)?;
        }
        streams.out.write_all(if unknowns.is_empty() { b"]}\n" } else { b"\n]}\n" })?;
        Ok(())
    }
}
