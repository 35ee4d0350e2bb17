//! One JSON object, written as the changes come. docs/schema/diff.json describes it.

use serde::Serialize;
use signalbox_policy::Family;
use signalbox_policy::diff::Change;

use super::{End, Sink, access, effect};
use crate::analyze::Ports;
use crate::error::Error;
use crate::streams::Streams;
use crate::unknown::Unknown;

#[derive(Default)]
pub(super) struct Json {
    written: usize,
}

/// The fields come in this order.
#[derive(Serialize)]
struct Row {
    src: String,
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    effect: &'static str,
    before: &'static str,
    after: &'static str,
    ports: Ports,
}

#[derive(Serialize)]
struct Unknowns<'a> {
    before: Vec<&'a Unknown>,
    after: Vec<&'a Unknown>,
}

impl Sink for Json {
    fn changes(&mut self, changes: &[Change], streams: &mut Streams<'_>) -> Result<(), Error> {
        for change in changes {
            streams.out.write_all(if self.written == 0 { b"{\"changes\":[\n" } else { b",\n" })?;
            self.written += 1;
            let row = Row {
                src: change.from.to_string(),
                dst: change.to.to_string(),
                family: change.family.map(Family::as_str),
                effect: effect(change.effect()),
                before: access(change.before),
                after: access(change.after),
                ports: Ports(change.traffic.clone()),
            };
            serde_json::to_writer(&mut *streams.out, &row).map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    fn end(&mut self, end: &End, streams: &mut Streams<'_>) -> Result<(), Error> {
        let End { summary, external, doubts } = end;
        let begin: &[u8] = if self.written == 0 { b"{\"changes\":[" } else { b"\n" };
        streams.out.write_all(begin)?;
        let summary = serde_json::to_string(summary).map_err(std::io::Error::from)?;
        let unknown = Unknowns { before: doubts.before.iter().collect(), after: doubts.after.iter().collect() };
        let unknown = serde_json::to_string(&unknown).map_err(std::io::Error::from)?;
        writeln!(streams.out, "],\"external\":{external},\"summary\":{summary},\"unknown\":{unknown}}}")?;
        Ok(())
    }
}
