//! The result as one JSON object. A fact that is not known is null.

use serde_json::json;

use super::report::{Report, decision};

/// Renders it on one line.
pub(super) fn render(report: &Report) -> String {
    let checks: Vec<_> = report
        .checks
        .iter()
        .map(|check| {
            json!({
                "from": check.from,
                "to": check.to,
                "port": check.port,
                "protocol": check.protocol,
                "outcome": check.outcome,
                "spec": check.spec.map(decision),
                "kernel": check.kernel.map(decision),
                "latency_us": check.latency_us,
            })
        })
        .collect();
    json!({"checks": checks, "agree": report.agree()}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test::report::tests::lesson;

    #[test]
    fn it_has_the_documented_shape() {
        let value: serde_json::Value = serde_json::from_str(&render(&Report::new(&lesson()))).unwrap();
        assert_eq!(value["agree"], json!(true));
        assert_eq!(
            value["checks"][1],
            json!({
                "from": "frontend/web", "to": "backend/dbsvc", "port": 9000, "protocol": "TCP",
                "outcome": "open", "spec": "allowed", "kernel": "allowed", "latency_us": 123,
            })
        );
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
