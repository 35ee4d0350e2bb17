//! A connection that is held through changes of policies: it lives as long as a rule allows it, and no longer.

use std::time::Duration;

use anyhow::{Result, ensure};
use signalbox_e2e::held::Held;
use signalbox_e2e::lab::Lab;

/// So long without an echo, with 20 a second before, is a cut.
const SILENCE: Duration = Duration::from_millis(1_500);

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn ingress(from: &str) -> String {
    policy("backend", "echo", &format!("{{podSelector: {{matchLabels: {{app: echo}}}}, ingress: [{from}]}}"))
}

const FROM_FRONT: &str = "{from: [{namespaceSelector: {matchLabels: {tier: front}}}]}";

fn walk(attach: &str) -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--attach", attach])?;
    lab.apply("echo.yaml")?;
    lab.kubectl(&["-n", "backend", "wait", "--for=condition=Ready", "pod/echo", "--timeout=20s"])?;
    let address = lab.kubectl(&["-n", "backend", "get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}"])?;
    let open = |lab: &Lab| Held::open(lab, "frontend", "web", &address, 9000);

    // Opened where nothing is shut. Zero trust comes together with what allows it, in one go.
    lab.apply_text(&ingress(FROM_FRONT))?;
    let mut held = open(&lab)?;
    lab.apply_step("2-web.yaml")?;
    held.lives(10)?;
    lab.apply_step("1-zero-trust.yaml")?;
    held.lives(10)?;
    // Other pods' policies, and a rule more beside the one that it lives by.
    lab.apply_step("3-dbsvc.yaml")?;
    lab.apply_step("4-extsvc.yaml")?;
    held.lives(10)?;
    lab.apply_text(&ingress(&format!("{{from: [{{ipBlock: {{cidr: 198.51.100.0/24}}}}]}}, {FROM_FRONT}")))?;
    held.lives(10)?;
    // Another rule that says the same takes over from the one that is taken away.
    lab.apply_text(&policy(
        "backend",
        "second",
        &format!("{{podSelector: {{matchLabels: {{app: echo}}}}, ingress: [{FROM_FRONT}]}}"),
    ))?;
    lab.kubectl(&["-n", "backend", "delete", "networkpolicy", "echo"])?;
    held.lives(10)?;

    // The last rule goes on the side of the destination.
    lab.kubectl(&["-n", "backend", "delete", "networkpolicy", "second"])?;
    held.is_cut(SILENCE)?;
    ensure!(open(&lab).is_err(), "a new connection is shut as well");

    // And once more on the side of the source.
    lab.apply_text(&ingress(FROM_FRONT))?;
    let mut held = open(&lab)?;
    lab.kubectl(&["-n", "frontend", "delete", "networkpolicy", "web"])?;
    held.is_cut(SILENCE)
}

#[test]
fn it_lives_by_a_kept_rule_and_is_cut_when_the_rule_goes() -> Result<()> {
    walk("auto")
}

#[test]
fn it_does_so_on_clsact_as_well() -> Result<()> {
    walk("clsact")
}
