//! One line for each pair, and below them what was not understood.

use signalbox_policy::PodRef;
use signalbox_policy::analyze::Link;

use super::Sink;
use crate::error::Error;
use crate::streams::Streams;
use crate::unknown::Unknowns;

pub(super) struct Table {
    width: usize,
    open: usize,
    unknown: usize,
}

impl Table {
    pub(super) fn new<'p>(pods: impl Iterator<Item = &'p PodRef>) -> Self {
        const RANGE: usize = "255.255.255.255-255.255.255.255".len();
        let width = pods.map(|pod| pod.to_string().chars().count()).max().unwrap_or(0);
        Self { width: width.clamp("FROM".len(), RANGE * 2), open: 0, unknown: 0 }
    }
}

impl Sink for Table {
    fn links(&mut self, links: &[Link], streams: &mut Streams<'_>) -> Result<(), Error> {
        let (width, paint) = (self.width, streams.paint);
        for link in links {
            if self.open + self.unknown == 0 {
                let head = format!("{:width$}  {:width$}  OPEN", "FROM", "TO");
                writeln!(streams.out, "{}", paint.bold(&head))?;
            }
            let reach = &link.reach;
            let mut words = Vec::new();
            if !reach.open.is_empty() {
                self.open += 1;
                words.push(paint.good(&reach.open.to_string()));
            }
            if !reach.unknown.is_empty() {
                self.unknown += 1;
                words.push(paint.doubtful(&format!("unknown: {}", reach.unknown)));
            }
            let family = link.family.map_or(String::new(), |family| format!(" over {family}"));
            let (from, to) = (link.from.to_string(), link.to.to_string());
            writeln!(streams.out, "{from:width$}  {to:width$}  {}{family}", words.join("; "))?;
        }
        Ok(())
    }

    fn end(&mut self, unknowns: &Unknowns, streams: &mut Streams<'_>) -> Result<(), Error> {
        let paint = streams.paint;
        let lines = unknowns.lines(paint);
        if self.open + self.unknown > 0 {
            writeln!(streams.out)?;
        }
        let pairs = |count: usize| if count == 1 { "1 pair is".to_owned() } else { format!("{count} pairs are") };
        writeln!(streams.out, "{} open in whole or in part", pairs(self.open))?;
        if self.unknown > 0 {
            writeln!(streams.out, "{} unknown in whole or in part", pairs(self.unknown))?;
        }
        if !lines.is_empty() {
            writeln!(streams.out, "\n{}", paint.bold("not understood"))?;
        }
        for line in lines {
            writeln!(streams.out, "{line}")?;
        }
        Ok(())
    }
}
