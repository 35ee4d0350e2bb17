//! `signalbox simplify`: the same meaning with less to read.

use serde::Serialize;
use signalbox_policy::simplify::{Options, Rewrite, Simplified};

use crate::Exit;
use crate::error::Error;
use crate::input::{self, Input, Live};
use crate::streams::Streams;

const EXAMPLES: &str = "\
Examples:
  signalbox simplify manifests/                    what could be said shorter, as YAML to apply
  signalbox simplify manifests/ --check            fail in CI if anything could
  signalbox simplify manifests/ --specific         also what holds for the pods at hand only
  signalbox simplify manifests/ -o json | jq '.steps[]'

The result means the same: for every pod that there could be, unless --specific is given; and it is held against the policies
before, pair by pair, on the pods at hand.

Exit status: 0 if all was read, 1 if --check found something or the proof failed, 2 if something could not be read.";

/// Say the same with fewer and smaller policies
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: input::Args,
    /// Leave out, too, what matches none of the pods at hand
    #[arg(long)]
    specific: bool,
    /// Fail if anything could be simpler
    #[arg(long)]
    check: bool,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Yaml)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The policies that change, to be applied; what to delete stands in comments
    Yaml,
    /// What was done, line by line
    Table,
    /// One object: docs/schema/simplify.json
    Json,
}

/// The fields come in this order.
#[derive(Serialize)]
struct Output<'a> {
    changed: Vec<Changed<'a>>,
    deleted: Vec<Deleted<'a>>,
    kept: Vec<String>,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Changed<'a> {
    object: String,
    comment: &'a str,
    yaml: &'a str,
}

#[derive(Serialize)]
struct Deleted<'a> {
    object: String,
    reason: &'a str,
}

#[derive(Serialize)]
struct Step<'a> {
    rewrite: &'static str,
    object: String,
    what: &'a str,
}

pub(crate) fn run(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Exit, Error> {
    let input = Input::load(&args.input, live, streams)?;
    input.complain(streams);
    let specific = if args.specific { Rewrite::SPECIFIC.into() } else { Options::default().specific };
    let simplified = match input.cluster().simplify(&Options { specific }) {
        Ok(simplified) => simplified,
        Err(error) => {
            streams.note(&format!("error: {error}"));
            return Ok(Exit::Findings);
        }
    };
    let is_simple = simplified.changed.is_empty() && simplified.deleted.is_empty();
    match args.output {
        Format::Yaml if is_simple => streams.note("note: nothing can be said shorter"),
        Format::Yaml => streams.out.write_all(simplified.yaml().as_bytes())?,
        Format::Table => table(&simplified, streams)?,
        Format::Json => json(&simplified, streams)?,
    }
    Ok(if !input.broken.is_empty() {
        Exit::Unreadable
    } else if args.check && !is_simple {
        Exit::Findings
    } else {
        Exit::Fine
    })
}

fn table(simplified: &Simplified, streams: &mut Streams<'_>) -> Result<(), Error> {
    let paint = streams.paint;
    for step in &simplified.steps {
        writeln!(streams.out, "{}: {}", paint.bold(&step.policy.to_string()), step.what)?;
    }
    let Simplified { changed, deleted, kept, .. } = simplified;
    writeln!(streams.out, "{} change, {} go, {} stay as they are", changed.len(), deleted.len(), kept.len())?;
    Ok(())
}

fn json(simplified: &Simplified, streams: &mut Streams<'_>) -> Result<(), Error> {
    let changed = simplified.changed.iter().map(|it| Changed {
        object: it.object.to_string(),
        comment: &it.comment,
        yaml: &it.yaml,
    });
    let deleted = simplified.deleted.iter().map(|(policy, reason)| Deleted { object: policy.to_string(), reason });
    let steps = simplified.steps.iter().map(|step| Step {
        rewrite: rewrite(step.rewrite),
        object: step.policy.to_string(),
        what: &step.what,
    });
    let output = Output {
        changed: changed.collect(),
        deleted: deleted.collect(),
        kept: simplified.kept.iter().map(ToString::to_string).collect(),
        steps: steps.collect(),
    };
    serde_json::to_writer(&mut *streams.out, &output).map_err(std::io::Error::from)?;
    writeln!(streams.out)?;
    Ok(())
}

fn rewrite(rewrite: Rewrite) -> &'static str {
    match rewrite {
        Rewrite::Selector => "selector",
        Rewrite::Peers => "peers",
        Rewrite::Blocks => "blocks",
        Rewrite::Ports => "ports",
        Rewrite::Shadowed => "shadowed",
        Rewrite::Rules => "rules",
        Rewrite::Policies => "policies",
        Rewrite::Idle => "idle",
        Rewrite::SelectsNothing => "selects-nothing",
        Rewrite::MatchesNothing => "matches-nothing",
    }
}
