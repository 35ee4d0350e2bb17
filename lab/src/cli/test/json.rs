//! The result as one JSON object. A fact that is not known is null.

use serde::Serialize;
use signalbox_api::cell::Outcome;
use signalbox_api::flow::{Decision, Protocol};

use super::report::Report;

/// The fields come in this order.
#[derive(Serialize)]
struct Check<'a> {
    from: &'a str,
    to: &'a str,
    port: u16,
    protocol: Protocol,
    outcome: Option<Outcome>,
    spec: Option<Decision>,
    kernel: Option<Decision>,
    latency_us: Option<u64>,
}

#[derive(Serialize)]
struct Output<'a> {
    checks: Vec<Check<'a>>,
    agree: bool,
}

/// Renders it on one line.
pub(super) fn render(report: &Report) -> String {
    let checks = report.checks.iter().map(|check| Check {
        from: &check.from,
        to: &check.to,
        port: check.port,
        protocol: check.protocol,
        outcome: check.outcome,
        spec: check.spec,
        kernel: check.kernel,
        latency_us: check.latency_us,
    });
    let output = Output { checks: checks.collect(), agree: report.agree() };
    serde_json::to_string(&output).expect("words and numbers are valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test::report::tests::lesson;
    use serde_json::json;

    #[test]
    fn it_has_the_documented_shape() {
        let text = render(&Report::new(&lesson()));
        let check = r#"{"from":"frontend/web","to":"backend/dbsvc","port":9000,"protocol":"TCP","outcome":"open","spec":"allowed","kernel":"allowed","latency_us":123}"#;
        assert!(text.starts_with(r#"{"checks":[{"from":"frontend/web","to":"frontend/web","#), "{text}");
        assert!(text.contains(check), "{text}");
        assert!(text.ends_with(r#"],"agree":true}"#), "{text}");
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut snapshot = lesson();
        snapshot.cells.clear();
        let value: serde_json::Value = serde_json::from_str(&render(&Report::new(&snapshot))).unwrap();
        assert_eq!(value["agree"], json!(false));
        for fact in ["outcome", "spec", "kernel", "latency_us"] {
            assert!(value["checks"][0].as_object().unwrap()[fact].is_null(), "{fact}");
        }
    }
}
