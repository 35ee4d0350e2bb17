//! `signalbox suggest`: policies that allow exactly what must work. [`needs`] reads what that is.

mod needs;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;
use signalbox_policy::suggest::{Dns, Options, Scope, Spread, Suggestion};

use crate::Exit;
use crate::error::Error;
use crate::input::{self, Input, Live};
use crate::streams::Streams;

const EXAMPLES: &str = "\
Examples:
  signalbox suggest must-work.txt manifests/            policies that allow that and nothing else
  signalbox analyze manifests/ -o json | signalbox suggest - manifests/
  signalbox suggest seen.csv --kubeconfig ~/.kube/config --replicas --dns > policies.yaml

What must work is a text with a connection on each line, and comments behind #:
  shop/web -> shop/db:5432
  shop/web -> kube-system/coredns:53/UDP
  198.51.100.0/24 -> shop/web:8080-8090
  shop/web -> shop/cache:6379/TCP IPv6        by that family only, which takes addresses instead of labels
or CSV with the columns src, dst, protocol and port (or first_port and last_port), or JSON: what `analyze -o json` prints, or a list
of such connections. An end is NAMESPACE/POD, NAMESPACE/WORKLOAD, an address, a CIDR or a range of addresses.

Exit status: 0 if there is a suggestion, 1 if no policies can do that, 2 if something could not be read.";

/// Suggest policies that allow exactly what must work
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What must work: a file, or `-` for standard input
    needs: PathBuf,
    #[command(flatten)]
    input: input::Args,
    /// Let all pods resolve names, too
    #[arg(long)]
    dns: bool,
    /// What one replica needs, all of them need: for lists of what was seen
    #[arg(long)]
    replicas: bool,
    /// Suggest policies for this namespace only; may be given several times
    #[arg(short, long, value_name = "NAME")]
    namespace: Vec<String>,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Yaml)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// To be applied; what must go and what could not be proved stands in comments
    Yaml,
    /// One object: docs/schema/suggest.json
    Json,
}

/// The fields come in this order.
#[derive(Serialize)]
struct Output<'a> {
    policies: Vec<Row<'a>>,
    deletes: Vec<String>,
    caveats: &'a [String],
}

#[derive(Serialize)]
struct Row<'a> {
    object: String,
    comment: &'a str,
    yaml: &'a str,
}

pub(crate) fn run(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Exit, Error> {
    if args.input.paths.iter().chain([&args.needs]).filter(|path| input::is_standard_input(path)).count() > 1 {
        return Err(Error::StandardInputTwice);
    }
    let text = input::read_text(&args.needs, streams)?;
    let input = Input::load(&args.input, live, streams)?;
    input.complain(streams);
    let cluster = input.cluster();
    let needs = needs::read(&args.needs.display().to_string(), &text, &cluster)?;
    let scope = match args.namespace.is_empty() {
        true => Scope::All,
        false => Scope::Namespaces(args.namespace.iter().cloned().collect::<BTreeSet<_>>()),
    };
    let options = Options {
        dns: if args.dns { Dns::Allow } else { Dns::Omit },
        spread: if args.replicas { Spread::Replicas } else { Spread::Exactly },
        scope,
    };
    let suggestion = match cluster.suggest(&needs, &options) {
        Ok(suggestion) => suggestion,
        Err(error) => {
            streams.note(&format!("error: {error}"));
            return Ok(Exit::Findings);
        }
    };
    match args.output {
        Format::Yaml => streams.out.write_all(yaml(&suggestion).as_bytes())?,
        Format::Json => {
            let rows = suggestion.policies.iter().map(|it| Row {
                object: it.object.to_string(),
                comment: &it.comment,
                yaml: &it.yaml,
            });
            let output = Output {
                policies: rows.collect(),
                deletes: suggestion.deletes.iter().map(ToString::to_string).collect(),
                caveats: &suggestion.caveats,
            };
            serde_json::to_writer(&mut *streams.out, &output).map_err(std::io::Error::from)?;
            writeln!(streams.out)?;
        }
    }
    Ok(if input.broken.is_empty() { Exit::Fine } else { Exit::Unreadable })
}

fn yaml(suggestion: &Suggestion) -> String {
    let mut text = String::new();
    for caveat in &suggestion.caveats {
        text += &format!("# not proved: {caveat}\n");
    }
    for policy in &suggestion.deletes {
        let namespace = policy.namespace.as_deref().unwrap_or_default();
        text += &format!("# kubectl delete networkpolicy --namespace {namespace} {}\n", policy.name);
    }
    text + &suggestion.yaml()
}
