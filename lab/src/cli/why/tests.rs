use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[test]
fn ends_get_the_namespace_that_they_do_not_name() {
    let line = Line::try_parse_from(["why", "web", "db:5432/TCP", "-n", "shop"]).unwrap();
    for (end, expected) in [
        ("web", "shop/web"),
        ("a/web", "a/web"),
        ("db:5432", "shop/db:5432"),
        ("db:5432/TCP", "shop/db:5432/TCP"),
        ("a/db:5432/TCP", "a/db:5432/TCP"),
        ("198.51.100.7:80/TCP", "198.51.100.7:80/TCP"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("2001:db8::1", "2001:db8::1"),
        ("node", "node"),
    ] {
        assert_eq!(full(end, &line.args), expected, "{end}");
    }
}

#[test]
fn what_was_tried_is_held_against_the_policies() {
    let spec = |verdicts: &[&str]| {
        let answers: Vec<Value> = verdicts.iter().map(|verdict| serde_json::json!({"verdict": verdict})).collect();
        serde_json::json!({"answers": answers})
    };
    for (verdicts, outcome, expected) in [
        (&["allowed"][..], Outcome::Open, Agreement::Agree),
        (&["allowed"], Outcome::Refused, Agreement::Agree),
        (&["allowed"], Outcome::Dropped, Agreement::Disagree),
        (&["denied"], Outcome::Dropped, Agreement::Agree),
        (&["denied", "denied"], Outcome::Open, Agreement::Disagree),
        (&["allowed", "denied"], Outcome::Open, Agreement::Unsettled),
        (&["unknown"], Outcome::Open, Agreement::Unsettled),
        (&["allowed"], Outcome::ProbeBroken, Agreement::Unsettled),
        (&["denied"], Outcome::DnsFailed, Agreement::Unsettled),
        (&[], Outcome::Open, Agreement::Unsettled),
    ] {
        assert_eq!(compare(&spec(verdicts), outcome), expected, "{verdicts:?} {outcome}");
    }
}

#[test]
fn what_explain_names_is_what_the_server_is_asked_to_try() {
    let spec = |from: &str, to: &str| serde_json::json!({"from": from, "to": to, "port": 9000, "protocol": "UDP"});
    for (from, to, host) in [
        ("a/x", "b/y", Some("pod:b/y")),
        ("a/x", "198.51.100.20", Some("198.51.100.20")),
        ("a/x", "fd00::1", Some("fd00::1")),
        ("a/x", "198.51.100.0/24", None),
        ("198.51.100.20", "b/y", None),
        ("a/x", "node", None),
    ] {
        let wish = wish(&spec(from, to));
        assert_eq!(wish.as_ref().map(|wish| wish.to.host.as_str()), host, "{from} {to}");
        let Some(wish) = wish else { continue };
        assert_eq!((wish.to.port, wish.to.protocol), (9000, signalbox_api::flow::Protocol::Udp));
    }
    let line = |flags: &[&str]| Line::try_parse_from([&["why", "a/x", "b/y:1"], flags].concat());
    assert!(line(&["--in-pod"]).is_ok());
    assert!(line(&["--in-pod", "--stand-in"]).is_err() && line(&["--in-pod", "--no-probe"]).is_err());
}
