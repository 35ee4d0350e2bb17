//! One line for each range of ports.

use signalbox_policy::Family;
use signalbox_policy::analyze::Link;
use signalbox_policy::traffic::Traffic;

use super::Sink;
use crate::error::Error;
use crate::streams::Streams;
use crate::unknown::Unknowns;

#[derive(Default)]
pub(super) struct Csv {
    has_head: bool,
}

impl Csv {
    fn head(&mut self, streams: &mut Streams<'_>) -> Result<(), Error> {
        if !self.has_head {
            streams.out.write_all(b"src,dst,family,protocol,first_port,last_port,verdict\n")?;
            self.has_head = true;
        }
        Ok(())
    }
}

impl Sink for Csv {
    fn links(&mut self, links: &[Link], streams: &mut Streams<'_>) -> Result<(), Error> {
        self.head(streams)?;
        let mut writer = csv::Writer::from_writer(&mut *streams.out);
        for link in links {
            let (from, to) = (link.from.to_string(), link.to.to_string());
            let family = link.family.map_or("", Family::as_str);
            for (traffic, verdict) in [(&link.reach.open, "open"), (&link.reach.unknown, "unknown")] {
                for (protocol, first, last) in ranges(traffic) {
                    writer.write_record([&from, &to, family, &protocol, &first, &last, verdict])?;
                }
            }
        }
        writer.flush()?;
        Ok(())
    }

    fn end(&mut self, unknowns: &Unknowns, streams: &mut Streams<'_>) -> Result<(), Error> {
        self.head(streams)?;
        for line in unknowns.lines(crate::streams::Paint::Plain) {
            streams.note(&line);
        }
        Ok(())
    }
}

/// Protocol, first and last port of each range.
pub(crate) fn ranges(traffic: &Traffic) -> impl Iterator<Item = (String, String, String)> {
    traffic.protocols().flat_map(|(protocol, ports)| {
        ports.ranges().iter().map(move |(first, last)| (protocol.to_string(), first.to_string(), last.to_string()))
    })
}
