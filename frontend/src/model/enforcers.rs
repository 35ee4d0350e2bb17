//! The nodes' enforcers in words.

use signalbox_api::kernel::{AttachMode, EnforcerStatus, NodeLink};

use super::time;

/// What it does on its node. `with_pods`: how many pods there are may be told.
pub fn state(one: &EnforcerStatus, with_pods: bool) -> String {
    if is_lost(one) {
        return format!("not heard of; generation {} when it was heard last", one.generation);
    }
    let how = match one.attach {
        Some(AttachMode::Tcx) => "tcx",
        Some(AttachMode::Clsact) => "clsact",
        None => "nothing attached",
    };
    let state = if one.enforcing { "enforcing" } else { "not enforcing" };
    let applied = time::micros(one.last_apply_us);
    let pods = if with_pods { format!("{} pods, ", one.pods) } else { String::new() };
    let mut text = format!("{state} by {how}, {pods}generation {}, last policy applied in {applied}", one.generation);
    if one.lost_events > 0 {
        text += &format!(", {} events lost", one.lost_events);
    }
    text
}

/// How the server hears of it.
pub fn heard(link: &NodeLink, now_ms: f64) -> String {
    let mut text = match &link.lost {
        Some(_) => format!("version {}, lost {}", link.version, time::ago(link.since_ms, now_ms)),
        None => format!("version {}, connected {}", link.version, time::ago(link.since_ms, now_ms)),
    };
    if let Some(since) = link.behind_since_ms {
        text += &format!(", lacks a change of policies made {}", time::ago(since, now_ms));
    }
    if let Some(took) = link.round_trip_us {
        text += &format!(", answers in {}", time::micros(took));
    }
    if link.left_out > 0 {
        text += &format!(", {} verdicts left out", link.left_out);
    }
    text
}

/// Whether somebody should have a look at it.
pub fn wants_a_look(one: &EnforcerStatus) -> bool {
    !one.problems.is_empty() || one.link.as_ref().is_some_and(|link| link.behind_since_ms.is_some())
}

fn is_lost(one: &EnforcerStatus) -> bool {
    one.link.as_ref().is_some_and(|link| link.lost.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> NodeLink {
        NodeLink {
            version: "0.1.0".to_owned(),
            since_ms: 60_000,
            lost: None,
            behind_since_ms: None,
            round_trip_us: None,
            left_out: 0,
        }
    }

    #[test]
    fn a_lost_one_says_since_when_and_claims_nothing() {
        let lost = NodeLink { lost: Some("gone".to_owned()), ..link() };
        let one = EnforcerStatus { generation: 7, link: Some(lost.clone()), ..EnforcerStatus::default() };
        assert_eq!(state(&one, true), "not heard of; generation 7 when it was heard last");
        assert!(heard(&lost, 120_000.0).starts_with("version 0.1.0, lost "));
    }

    #[test]
    fn lag_round_trip_and_loss_are_told_where_there_are_any() {
        assert!(!heard(&link(), 70_000.0).contains("lacks"));
        let late = NodeLink { behind_since_ms: Some(65_000), round_trip_us: Some(900), left_out: 3, ..link() };
        let text = heard(&late, 70_000.0);
        for part in ["connected", "lacks a change of policies", "answers in", "3 verdicts left out"] {
            assert!(text.contains(part), "{text}");
        }
        let one = EnforcerStatus { link: Some(late), ..EnforcerStatus::default() };
        assert!(wants_a_look(&one));
    }
}
