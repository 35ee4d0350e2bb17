//! `signalbox diff`: what opens and what closes between two states.
//!
//! - [`states`]: which two states.
//! - [`table`], [`json`], [`csv`], [`junit`]: how the changes are printed, one source after another.

mod csv;
mod json;
mod junit;
mod states;
mod table;

use std::path::PathBuf;

use signalbox_policy::diff::{Access, Change, Effect};

use crate::Exit;
use crate::error::Error;
use crate::input::{ClusterArgs, Live};
use crate::scope::Scope;
use crate::streams::{Bar, Streams};
use crate::unknown::Unknowns;
use states::States;

const EXAMPLES: &str = "\
Examples:
  signalbox diff before/ after/                                two folders
  signalbox diff manifests/ --apply new.yaml                   what would this edit open or close?
  signalbox diff manifests/ --delete NetworkPolicy/shop/deny   and what if that were gone?
  signalbox diff --kubeconfig ~/.kube/config --apply new.yaml --fail-on opened
  signalbox diff --kubeconfig ~/.kube/config manifests/        the cluster as it is, against what it should be
  git show main:policies.yaml | signalbox diff - policies.yaml -o junit > changes.xml

Without --external pairs of pods alone are compared, also for --fail-on: what opens or closes to or from other addresses is not looked at.
A file of --apply replaces objects of the same kind and name, and adds the others.

Exit status: 0 if all was read and --fail-on found nothing, 1 if it did, 2 if something could not be read.
`opened` and `closed` count pairs of pods that are in both states; `any` counts pods that come and go, too. What is not known
counts as the worse of what it may be: from shut to unknown is opened.";

/// Show what opens and what closes between two states, or by one edit
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The old and the new state: files, folders, or `-` for standard input; the old one only with --apply or --delete
    #[arg(value_name = "OLD NEW")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The new state is the old one with the objects of this file or folder
    #[arg(long, value_name = "FILE")]
    apply: Vec<PathBuf>,
    /// The new state is the old one without this object: KIND/NAMESPACE/NAME, or KIND/NAME
    #[arg(long, value_name = "OBJECT")]
    delete: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Fail if there are such changes
    #[arg(long, value_name = "WHICH", value_enum)]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One line for each change
    Table,
    /// One object: docs/schema/diff.json
    Json,
    /// One line for each range of ports
    Csv,
    /// One test case for each change
    Junit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Something opens, or may open
    Opened,
    /// Something closes, or may close
    Closed,
    /// Anything changes, pods that come and go included
    Any,
}

impl FailOn {
    fn counts(self, effect: Effect) -> bool {
        match self {
            Self::Opened => effect == Effect::Opens,
            Self::Closed => effect == Effect::Closes,
            Self::Any => true,
        }
    }
}

/// How many changes there are of each effect.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
struct Summary {
    opens: usize,
    closes: usize,
    comes: usize,
    goes: usize,
}

impl Summary {
    fn add(&mut self, effect: Effect) {
        *match effect {
            Effect::Opens => &mut self.opens,
            Effect::Closes => &mut self.closes,
            Effect::Comes => &mut self.comes,
            Effect::Goes => &mut self.goes,
        } += 1;
    }
}

/// What was not understood of the two states.
struct Doubts {
    before: Unknowns,
    after: Unknowns,
}

/// What is said where the outside was not asked for: nothing that is counted tells of it.
const NO_OUTSIDE: &str = "the outside was not looked at: --external does";

/// How it came out.
struct End {
    summary: Summary,
    /// The outside was looked at.
    external: bool,
    doubts: Doubts,
}

/// Takes changes, one source at a time.
trait Sink {
    /// All changes of one source.
    fn changes(&mut self, changes: &[Change], streams: &mut Streams<'_>) -> Result<(), Error>;
    /// There are no more.
    fn end(&mut self, end: &End, streams: &mut Streams<'_>) -> Result<(), Error>;
}

pub(crate) fn run(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Exit, Error> {
    let states = States::load(args, live, streams)?;
    let (before, after) = (states.before.cluster(), states.after.cluster());
    let mut doubts =
        Doubts { before: Unknowns::of(&states.before, &before), after: Unknowns::of(&states.after, &after) };
    let mut sink: Box<dyn Sink> = match args.output {
        Format::Table => Box::<table::Table>::default(),
        Format::Json => Box::<json::Json>::default(),
        Format::Csv => Box::<csv::Csv>::default(),
        Format::Junit => Box::new(junit::Junit::new(args.fail_on)),
    };
    let mut summary = Summary::default();
    let mut has_failed = false;
    let mut bar = Bar::new(streams.progress, before.pods().count().max(after.pods().count()));
    for mut changes in before.differences(&after, args.scope.options()) {
        changes.retain(|change| args.scope.has(&change.from, &change.to));
        for change in &changes {
            let effect = change.effect();
            summary.add(effect);
            has_failed |= args.fail_on.is_some_and(|fail_on| fail_on.counts(effect));
            let unknown_now = change.after == Access::Unknown;
            if unknown_now { &mut doubts.after } else { &mut doubts.before }.add(&change.reasons);
        }
        sink.changes(&changes, streams)?;
        bar.step();
    }
    drop(bar);
    sink.end(&End { summary, external: args.scope.has_outside(), doubts }, streams)?;
    Ok(if !states.before.broken.is_empty() || !states.after.broken.is_empty() {
        Exit::Unreadable
    } else if has_failed {
        Exit::Findings
    } else {
        Exit::Fine
    })
}

/// The effect in a word.
fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Opens => "opens",
        Effect::Closes => "closes",
        Effect::Comes => "comes",
        Effect::Goes => "goes",
    }
}

/// The access in a word.
fn access(access: Access) -> &'static str {
    match access {
        Access::Absent => "absent",
        Access::Shut => "shut",
        Access::Unknown => "unknown",
        Access::Open => "open",
    }
}
