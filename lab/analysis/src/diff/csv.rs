//! One line for each range of ports.

use signalbox_policy::Family;
use signalbox_policy::diff::Change;

use super::{End, NO_OUTSIDE, Sink, access, effect};
use crate::csv_lines::{Lines, ranges};
use crate::error::Error;
use crate::streams::{Paint, Streams};

pub(super) struct Csv(Lines);

impl Default for Csv {
    fn default() -> Self {
        Self(Lines::new("effect,src,dst,family,before,after,protocol,first_port,last_port"))
    }
}

impl Sink for Csv {
    fn changes(&mut self, changes: &[Change], streams: &mut Streams<'_>) -> Result<(), Error> {
        self.0.write(streams, |writer| {
            for change in changes {
                let (from, to) = (change.from.to_string(), change.to.to_string());
                let family = change.family.map_or("", Family::as_str);
                let [effect, before, after] = [effect(change.effect()), access(change.before), access(change.after)];
                for (protocol, first, last) in ranges(&change.traffic) {
                    writer.write_record([effect, &from, &to, family, before, after, &protocol, &first, &last])?;
                }
            }
            Ok(())
        })
    }

    fn end(&mut self, end: &End, streams: &mut Streams<'_>) -> Result<(), Error> {
        self.0.begin(streams)?;
        if !end.external {
            streams.note(NO_OUTSIDE);
        }
        let doubts = &end.doubts;
        for line in doubts.before.lines(Paint::Plain).into_iter().chain(doubts.after.lines(Paint::Plain)) {
            streams.note(&line);
        }
        Ok(())
    }
}
