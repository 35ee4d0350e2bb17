//! `signalbox explain`: why a connection is open or shut.
//!
//! - [`ends`]: who the two ends are, as people write them; [`service`]: the pods behind a Service; [`node`]: the node that reaches them.
//! - [`answer`]: what the engine says of them, with the places in the manifests; [`text`] prints it.

mod answer;
mod ends;
mod node;
mod service;
mod text;

use serde::Serialize;

use crate::Exit;
use crate::error::Error;
use crate::input::{self, Input, Live};
use crate::source::Places;
use crate::streams::Streams;
use answer::{Answer, Whole};
use ends::{Ends, Target};

const EXAMPLES: &str = "\
Examples:
  signalbox explain shop/web shop/db:5432 manifests/          why web reaches db, or does not
  signalbox explain shop/web kube-system/coredns:53/UDP manifests/
  signalbox explain 198.51.100.7 shop/web:https manifests/     from an address outside; a port by its name
  signalbox explain shop/web [2001:db8::1]:443 manifests/      to one
  signalbox explain shop/web shop/service/api:80 manifests/    through a Service: each pod behind it
  signalbox explain shop/web shop/db:5432 --kubeconfig ~/.kube/config -o json

FROM and TO are NAMESPACE/POD, NAMESPACE/WORKLOAD (for which its first pod stands), an address, outside/HOST for the first address
of an ExternalHost, or `node` for the node that the other end runs on; where the pods behind a Service run on several, a node is named by
its address. The port is the pod's own, after a Service's translation.
TO may be a Service, NAMESPACE/service/NAME or its cluster address, at a port of its own, which may be left out where it has one
only: each ready pod behind it is judged at the port to which that leads. A pod in a namespace that is called `service` is
service/pod/NAME.

Exit status: 0 if the connection is allowed, to each pod behind a Service; 1 if it is denied or unknown to any, 2 if something could not be read or found.";

/// Tell why a connection is open or shut
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Who connects: NAMESPACE/POD, NAMESPACE/WORKLOAD, an address, or `node`
    from: String,
    /// To whom, at which port: the same, or NAMESPACE/service/NAME, then :PORT or :PORT/PROTOCOL
    #[arg(value_name = "TO:PORT[/PROTOCOL]")]
    to: String,
    #[command(flatten)]
    input: input::Args,
    /// The connection goes through a Service; it matters for a pod that calls itself
    #[arg(long)]
    through_service: bool,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One object: docs/schema/explain.json
    Json,
}

/// The fields come in this order.
#[derive(Debug, Serialize)]
struct Explanation {
    from: String,
    to: String,
    protocol: String,
    port: u16,
    /// What else there is of these names: more pods of a workload, a Service with that port, a host's address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Where a Service was asked about: it, and all answers in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<answer::Service>,
    /// One, or one for each pod behind a Service; and one for each family where they differ.
    answers: Vec<Answer>,
}

pub(crate) fn run(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Exit, Error> {
    let input = Input::load(&args.input, live, streams)?;
    let cluster = input.cluster();
    input.complain(streams);
    let ends = Ends::find(&args.from, &args.to, &input, &cluster)?;
    let route = if args.through_service { signalbox_policy::Route::Service } else { signalbox_policy::Route::Direct };
    let answers = answer::answers(&ends, route, &Places::of(&input), &cluster);
    let service = match &ends.to {
        Target::End(_) => None,
        Target::Service(behind) => Some(answer::Service { name: behind.id.to_string(), verdict: Whole::of(&answers) }),
    };
    let explanation = Explanation {
        from: ends.from.name.clone(),
        to: ends.to_name(),
        protocol: ends.protocol.to_string(),
        port: ends.port,
        notes: ends.notes.clone(),
        service,
        answers,
    };
    match args.output {
        Format::Json => {
            serde_json::to_writer(&mut *streams.out, &explanation).map_err(std::io::Error::from)?;
            writeln!(streams.out)?;
        }
        Format::Table => text::print(&explanation, streams)?,
    }
    let is_open = explanation.answers.iter().all(|answer| answer.verdict == answer::Word::Allowed);
    Ok(match (input.broken.is_empty(), is_open) {
        (false, _) => Exit::Unreadable,
        (true, true) => Exit::Fine,
        (true, false) => Exit::Findings,
    })
}
