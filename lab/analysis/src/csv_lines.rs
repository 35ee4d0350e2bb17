//! CSV, written as it comes: the head once, before whatever comes first.

use signalbox_policy::traffic::Traffic;

use crate::error::Error;
use crate::streams::Streams;

/// A table of which the head stands, or does not stand yet.
pub(crate) struct Lines {
    head: &'static str,
    has_head: bool,
}

impl Lines {
    /// One with these columns, of which nothing is written yet.
    pub(crate) const fn new(head: &'static str) -> Self {
        Self { head, has_head: false }
    }

    /// Writes the head, if it does not stand yet.
    pub(crate) fn begin(&mut self, streams: &mut Streams<'_>) -> Result<(), Error> {
        if !std::mem::replace(&mut self.has_head, true) {
            writeln!(streams.out, "{}", self.head)?;
        }
        Ok(())
    }

    /// Writes some lines.
    pub(crate) fn write(
        &mut self,
        streams: &mut Streams<'_>,
        lines: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> Result<(), csv::Error>,
    ) -> Result<(), Error> {
        self.begin(streams)?;
        let mut writer = csv::Writer::from_writer(Vec::new());
        lines(&mut writer)?;
        let text = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        Ok(streams.out.write_all(&text)?)
    }
}

/// Protocol, first and last port of each range.
pub(crate) fn ranges(traffic: &Traffic) -> impl Iterator<Item = (String, String, String)> {
    traffic.protocols().flat_map(|(protocol, ports)| {
        ports.ranges().iter().map(move |(first, last)| (protocol.to_string(), first.to_string(), last.to_string()))
    })
}
