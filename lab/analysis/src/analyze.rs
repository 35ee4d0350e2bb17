//! `signalbox analyze`: all connections that the policies allow.
//!
//! Links come one source at a time and are written as they come, by [`json`], [`csv`] and [`table`]. [`dot`] and [`svg`] draw
//! the whole picture.

mod csv;
mod dot;
mod json;
mod svg;
mod table;

pub(crate) use json::Ports;
use signalbox_policy::analyze::Link;

use crate::Exit;
use crate::error::Error;
use crate::input::{self, Input, Live};
use crate::scope::Scope;
use crate::streams::{Bar, Streams};
use crate::unknown::Unknowns;

const EXAMPLES: &str = "\
Examples:
  signalbox analyze manifests/                                  a table of all connections
  signalbox analyze manifests/ -o json | jq '.connections[] | select(.dst == \"shop/db\")'
  kubectl get ns,pods,netpol -A -o yaml | signalbox analyze -   of a live cluster
  signalbox analyze --kubeconfig ~/.kube/config --context prod  all kinds of policies
  signalbox analyze manifests/ --external                       with the outside, as ranges
  signalbox analyze manifests/ -n shop -o svg > shop.svg        a picture of one namespace

Exit status: 0 if all was read, 1 if --strict finds something unknown, 2 if something could not be read (the rest is
analysed and printed all the same) or nothing could be done.";

/// Show all connections that the policies allow, with exact port ranges
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: input::Args,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    scope: Scope,
    /// Fail if anything was not understood
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One line for each pair
    Table,
    /// One object: docs/schema/analyze.json
    Json,
    /// One line for each range of ports
    Csv,
    /// For Graphviz
    Dot,
    /// A picture
    Svg,
}

/// Takes links, one source at a time.
trait Sink {
    /// All links of one source.
    fn links(&mut self, links: &[Link], streams: &mut Streams<'_>) -> Result<(), Error>;
    /// There are no more.
    fn end(&mut self, unknowns: &Unknowns, streams: &mut Streams<'_>) -> Result<(), Error>;
}

pub(crate) fn run(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Exit, Error> {
    let input = Input::load(&args.input, live, streams)?;
    let cluster = input.cluster();
    input.complain(streams);
    if cluster.pods().next().is_none() {
        streams.note("note: there are no pods and no workloads among the objects, hence no connections");
    }
    let mut unknowns = Unknowns::of(&input, &cluster);
    let mut sink: Box<dyn Sink> = match args.output {
        Format::Table => Box::new(table::Table::new(cluster.pods())),
        Format::Json => Box::<json::Json>::default(),
        Format::Csv => Box::<csv::Csv>::default(),
        Format::Dot => Box::<dot::Dot>::default(),
        Format::Svg => Box::new(svg::Svg::new(cluster.pods(), &args.scope)),
    };
    let all = cluster.links(args.scope.options());
    let mut bar = Bar::new(streams.progress, all.len());
    for (_, mut links) in all {
        links.retain(|link| args.scope.has(&link.from, &link.to));
        unknowns.add(links.iter().flat_map(|link| &link.reach.reasons));
        sink.links(&links, streams)?;
        bar.step();
    }
    drop(bar);
    sink.end(&unknowns, streams)?;
    Ok(if !input.broken.is_empty() {
        Exit::Unreadable
    } else if args.strict && !unknowns.is_empty() {
        Exit::Findings
    } else {
        Exit::Fine
    })
}
