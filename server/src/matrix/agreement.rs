//! Whether a cell's facts agree.

use signalbox_api::cell::{Agreement, KernelFact, ProbeFact, SpecFact};
use signalbox_api::flow::Decision;

/// What is known of a cell besides its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// The facts are about the cluster as it is.
    Settled,
    /// A change is so young that whoever enforces need not have caught up with it, or it is newer than the probe.
    Changing,
}

/// Classifies a cell.
///
/// A contradiction while a change is under way is not yet one. A probe that says nothing of policies settles nothing,
/// and neither does a spec that cannot be judged.
pub fn classify(
    spec: Option<&SpecFact>,
    probe: Option<&ProbeFact>,
    kernel: Option<&KernelFact>,
    age: Age,
) -> Agreement {
    let spec = spec.and_then(|fact| fact.decision);
    let probe = probe.and_then(|fact| fact.outcome.decision());
    let kernel = kernel.map(|fact| fact.decision);
    if contradicts(spec, probe) || contradicts(spec, kernel) || contradicts(probe, kernel) {
        return match age {
            Age::Settled => Agreement::Disagree,
            Age::Changing => Agreement::Unsettled,
        };
    }
    if spec.is_some() && probe.is_some() { Agreement::Agree } else { Agreement::Unsettled }
}

fn contradicts(one: Option<Decision>, other: Option<Decision>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

#[cfg(test)]
mod tests {
    use signalbox_api::cell::{Evidence, Outcome};

    use super::*;

    const ALLOWED: Option<Decision> = Some(Decision::Allowed);
    const DENIED: Option<Decision> = Some(Decision::Denied);

    fn check(spec: Option<Decision>, probe: Option<Outcome>, kernel: Option<Decision>, age: Age) -> Agreement {
        let spec = SpecFact { decision: spec, summary: String::new(), sides: Vec::new(), unknown: Vec::new() };
        let probe = probe.map(|outcome| ProbeFact {
            outcome,
            evidence: Evidence::Answer,
            latency_us: None,
            seen_source: None,
            backend: None,
            detail: None,
            at_ms: 0,
        });
        let kernel = kernel.map(|decision| KernelFact {
            decision,
            direction: None,
            rule: None,
            isolated_by: Vec::new(),
            generation: 1,
            at_ms: 0,
            nodes: Vec::new(),
        });
        classify(Some(&spec), probe.as_ref(), kernel.as_ref(), age)
    }

    #[test]
    fn facts_and_their_agreement() {
        use Agreement::{Agree, Disagree, Unsettled};
        let open = Some(Outcome::Open);
        let dropped = Some(Outcome::Dropped);
        let cases = [
            (ALLOWED, open, ALLOWED, Agree),
            (ALLOWED, open, None, Agree),
            (DENIED, dropped, DENIED, Agree),
            (DENIED, dropped, None, Agree),
            (ALLOWED, Some(Outcome::Refused), ALLOWED, Agree),
            (ALLOWED, Some(Outcome::NoListener), None, Agree),
            (DENIED, open, None, Disagree),
            (ALLOWED, dropped, None, Disagree),
            (ALLOWED, open, DENIED, Disagree),
            (DENIED, Some(Outcome::DnsFailed), ALLOWED, Disagree),
            (ALLOWED, None, None, Unsettled),
            (None, open, None, Unsettled),
            (None, open, DENIED, Disagree),
            (ALLOWED, Some(Outcome::DnsFailed), None, Unsettled),
            (ALLOWED, Some(Outcome::ProbeBroken), None, Unsettled),
            (DENIED, Some(Outcome::Unreachable), None, Unsettled),
            (ALLOWED, None, ALLOWED, Unsettled),
        ];
        for (spec, probe, kernel, expected) in cases {
            assert_eq!(check(spec, probe, kernel, Age::Settled), expected, "{spec:?} {probe:?} {kernel:?}");
        }
    }

    #[test]
    fn a_contradiction_under_a_change_is_not_yet_one() {
        assert_eq!(check(DENIED, Some(Outcome::Open), None, Age::Changing), Agreement::Unsettled);
        assert_eq!(check(ALLOWED, Some(Outcome::Open), None, Age::Changing), Agreement::Agree);
    }
}
