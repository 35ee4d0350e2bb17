//! One line for each range of ports.

use signalbox_policy::Family;
use signalbox_policy::analyze::Link;

use super::Sink;
use crate::csv_lines::{Lines, ranges};
use crate::error::Error;
use crate::streams::{Paint, Streams};
use crate::unknown::Unknowns;

pub(super) struct Csv(Lines);

impl Default for Csv {
    fn default() -> Self {
        Self(Lines::new("src,dst,family,protocol,first_port,last_port,verdict"))
    }
}

impl Sink for Csv {
    fn links(&mut self, links: &[Link], streams: &mut Streams<'_>) -> Result<(), Error> {
        self.0.write(streams, |writer| {
            for link in links {
                let (from, to) = (link.from.to_string(), link.to.to_string());
                let family = link.family.map_or("", Family::as_str);
                for (traffic, verdict) in [(&link.reach.open, "open"), (&link.reach.unknown, "unknown")] {
                    for (protocol, first, last) in ranges(traffic) {
                        writer.write_record([&from, &to, family, &protocol, &first, &last, verdict])?;
                    }
                }
            }
            Ok(())
        })
    }

    fn end(&mut self, unknowns: &Unknowns, streams: &mut Streams<'_>) -> Result<(), Error> {
        self.0.begin(streams)?;
        for line in unknowns.lines(Paint::Plain) {
            streams.note(&line);
        }
        Ok(())
    }
}
