//! One line for each range of ports.

use signalbox_policy::Family;
use signalbox_policy::diff::Change;

use super::{Doubts, Sink, Summary, access, effect};
use crate::analyze::ranges;
use crate::error::Error;
use crate::streams::{Paint, Streams};

#[derive(Default)]
pub(super) struct Csv {
    has_head: bool,
}

impl Csv {
    fn head(&mut self, streams: &mut Streams<'_>) -> Result<(), Error> {
        if !self.has_head {
            streams.out.write_all(b"effect,src,dst,family,before,after,protocol,first_port,last_port\n")?;
            self.has_head = true;
        }
        Ok(())
    }
}

impl Sink for Csv {
    fn changes(&mut self, changes: &[Change], streams: &mut Streams<'_>) -> Result<(), Error> {
        self.head(streams)?;
        let mut writer = csv::Writer::from_writer(&mut *streams.out);
        for change in changes {
            let (from, to) = (change.from.to_string(), change.to.to_string());
            let family = change.family.map_or("", Family::as_str);
            let [effect, before, after] = [effect(change.effect()), access(change.before), access(change.after)];
            for (protocol, first, last) in ranges(&change.traffic) {
                writer.write_record([effect, &from, &to, family, before, after, &protocol, &first, &last])?;
            }
        }
        writer.flush()?;
        Ok(())
    }

    fn end(&mut self, _: Summary, doubts: &Doubts, streams: &mut Streams<'_>) -> Result<(), Error> {
        self.head(streams)?;
        for line in doubts.before.lines(Paint::Plain).into_iter().chain(doubts.after.lines(Paint::Plain)) {
            streams.note(&line);
        }
        Ok(())
    }
}
