//! `signalbox lint`: what a reviewer would say of the policies.
//!
//! - [`report`]: findings with their places in the manifests; [`table`], [`json`], [`junit`], [`github`] print them.

mod github;
mod json;
mod junit;
mod report;
mod table;

use signalbox_policy::lint::{Finding, RuleId, Severity, lint};

use crate::Exit;
use crate::error::Error;
use crate::input::{self, Input, Live};
use crate::streams::Streams;
use report::Report;

const EXAMPLES: &str = "\
Examples:
  signalbox lint manifests/                           all findings, with file and line
  signalbox lint manifests/ --deny warnings           fail in CI on warnings and errors
  signalbox lint manifests/ --deny dns-forgotten --allow SB504
  signalbox lint manifests/ -o github                 annotations on a pull request
  signalbox lint --kubeconfig ~/.kube/config -o json  a live cluster
  signalbox lint --rules                              all rules there are

A rule is named by its id or its name: SB101 or selects-nothing. docs/lint.md describes each.

Exit status: 0 if no finding is denied, 1 if one is, 2 if something could not be read. Errors are denied if nothing else is
said.";

/// Find what is wrong or suspicious in policies
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: input::Args,
    /// Fail on findings of this severity and above, or of this rule; may be given several times
    #[arg(long, value_name = "errors|warnings|infos|RULE", value_parser = deny, default_value = "errors")]
    deny: Vec<Deny>,
    /// Leave findings of this rule out; may be given several times
    #[arg(long, value_name = "RULE", value_parser = rule)]
    allow: Vec<RuleId>,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    /// List all rules and do nothing else
    #[arg(long, exclusive = true)]
    rules: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people, with the lines concerned
    Table,
    /// One object: docs/schema/lint.json
    Json,
    /// One test case for each finding
    Junit,
    /// Annotations of GitHub's workflows
    Github,
}

/// What makes lint fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deny {
    AtLeast(Severity),
    Rule(RuleId),
}

impl Deny {
    fn counts(self, finding: &Finding) -> bool {
        match self {
            Self::AtLeast(severity) => finding.severity >= severity,
            Self::Rule(rule) => finding.rule == rule,
        }
    }
}

fn deny(text: &str) -> Result<Deny, String> {
    Ok(match text {
        "errors" | "error" => Deny::AtLeast(Severity::Error),
        "warnings" | "warning" => Deny::AtLeast(Severity::Warning),
        "infos" | "info" | "all" => Deny::AtLeast(Severity::Info),
        text => Deny::Rule(rule(text)?),
    })
}

fn rule(text: &str) -> Result<RuleId, String> {
    RuleId::parse(text).ok_or_else(|| format!("there is no rule {text:?}; `signalbox lint --rules` lists all"))
}

pub(crate) fn run(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Exit, Error> {
    if args.rules {
        for rule in RuleId::ALL {
            let (id, name, severity, summary) = (rule.id(), rule.slug(), rule.severity().to_string(), rule.summary());
            writeln!(streams.out, "{id} {name:24} {severity:8} {summary}")?;
        }
        return Ok(Exit::Fine);
    }
    let input = Input::load(&args.input, live, streams)?;
    let mut findings = lint(&input.objects, &input.cluster());
    findings.retain(|finding| !args.allow.contains(&finding.rule));
    let is_denied = |finding: &Finding| args.deny.iter().any(|deny| deny.counts(finding));
    let report = Report::new(&findings, is_denied, &input);
    match args.output {
        Format::Table => {
            input.complain(streams);
            table::print(&report, streams)?;
        }
        Format::Json => {
            input.complain(streams);
            json::print(&report, &input, streams)?;
        }
        Format::Junit => {
            input.complain(streams);
            junit::print(&report, &input, streams)?;
        }
        Format::Github => github::print(&report, &input, streams)?,
    }
    Ok(if !input.broken.is_empty() {
        Exit::Unreadable
    } else if report.entries.iter().any(|entry| entry.is_denied) {
        Exit::Findings
    } else {
        Exit::Fine
    })
}
