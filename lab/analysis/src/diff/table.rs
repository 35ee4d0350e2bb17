//! One line for each change.

use signalbox_policy::diff::{Change, Effect};

use super::{End, NO_OUTSIDE, Sink, Summary, access};
use crate::error::Error;
use crate::streams::Streams;

#[derive(Default)]
pub(super) struct Table;

impl Sink for Table {
    fn changes(&mut self, changes: &[Change], streams: &mut Streams<'_>) -> Result<(), Error> {
        let paint = streams.paint;
        let width = changes.iter().map(|change| change.to.to_string().chars().count()).max().unwrap_or(0);
        for change in changes {
            let word = match (change.effect(), change.is_certain()) {
                (Effect::Opens, true) => paint.good("+ opens "),
                (Effect::Closes, true) => paint.bad("- closes"),
                (Effect::Opens, false) => paint.doubtful("? may open "),
                (Effect::Closes, false) => paint.doubtful("? may close"),
                (Effect::Comes, _) => paint.good("* comes "),
                (Effect::Goes, _) => paint.bad("* goes  "),
            };
            let family = change.family.map_or(String::new(), |family| format!(" over {family}"));
            let uncertain = match change.is_certain() {
                true => String::new(),
                false => format!(" (was {}, is {})", access(change.before), access(change.after)),
            };
            let (from, to) = (&change.from, change.to.to_string());
            writeln!(streams.out, "{word}  {from} -> {to:width$}  {}{family}{uncertain}", change.traffic)?;
        }
        Ok(())
    }

    fn end(&mut self, end: &End, streams: &mut Streams<'_>) -> Result<(), Error> {
        let (paint, doubts) = (streams.paint, &end.doubts);
        let Summary { opens, closes, comes, goes } = end.summary;
        if opens + closes + comes + goes == 0 {
            let between = if end.external { "" } else { "between pods " };
            writeln!(streams.out, "{between}nothing opens and nothing closes")?;
        } else {
            writeln!(streams.out, "\n{opens} open, {closes} close, {comes} come and {goes} go with their pods")?;
        }
        if !end.external {
            writeln!(streams.out, "{}", paint.doubtful(NO_OUTSIDE))?;
        }
        for (title, unknowns) in [("before", &doubts.before), ("after", &doubts.after)] {
            if !unknowns.is_empty() {
                writeln!(streams.out, "\n{}", paint.bold(&format!("not understood {title}")))?;
            }
            for line in unknowns.lines(paint) {
                writeln!(streams.out, "{line}")?;
            }
        }
        Ok(())
    }
}
