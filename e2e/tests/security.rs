//! No web page and no other user of the machine can drive a lab that runs as root.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use signalbox_e2e::lab::Lab;
use signalbox_e2e::shell::{self, curl};

const NOBODY: u32 = 65534;

#[test]
fn the_kubernetes_api_demands_the_kubeconfigs_credentials() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let mode = std::fs::metadata(&lab.kubeconfig)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the kubeconfig's mode is {mode:o}");
    let view = lab.kubectl(&["config", "view", "--raw", "-o", "json"])?;
    let view: serde_json::Value = serde_json::from_str(&view)?;
    let server = view["clusters"][0]["cluster"]["server"].as_str().context("a server")?.to_owned();
    let token = view["users"][0]["user"]["token"].as_str().context("a token")?.to_owned();
    let pods = format!("{server}/api/v1/pods");
    let bearer = format!("Authorization: Bearer {token}");
    let wrong = "Authorization: Bearer 0000000000000000";
    let cases: &[(&str, &[&str], u16)] = &[
        ("with the token", &["-k", "-H", &bearer], 200),
        ("without a token", &["-k"], 401),
        ("with a wrong token", &["-k", "-H", wrong], 401),
        ("from a page, with the token", &["-k", "-H", &bearer, "-H", "Origin: http://evil.example"], 403),
        ("from a page on the same host", &["-k", "-H", &bearer, "-H", "Origin: http://127.0.0.1:8080"], 403),
        ("under another name (DNS rebinding)", &["-k", "-H", &bearer, "-H", "Host: evil.example"], 403),
        (
            "a preflight",
            &["-k", "-X", "OPTIONS", "-H", "Origin: http://evil.example", "-H", "Access-Control-Request-Method: GET"],
            403,
        ),
    ];
    for (what, arguments, status) in cases {
        let answer = curl(arguments, &pods)?;
        ensure!(answer.status == *status, "{what}: {} instead of {status}: {}", answer.status, answer.body);
    }
    ensure!(
        !view["clusters"][0]["cluster"]["certificate-authority-data"].is_null(),
        "kubectl can check the certificate"
    );
    Ok(())
}

#[test]
fn the_pages_api_checks_host_origin_and_token() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let bearer = format!("Authorization: Bearer {}", lab.token);
    let state_url = format!("{}/api/v1/state", lab.url);
    let step = format!("{}/api/v1/lesson/steps/1", lab.url);
    let own = format!("Origin: {}", lab.url);
    let foreign = "Origin: http://evil.example";
    let cases: &[(&str, &[&str], &str, u16)] = &[
        ("reading", &[], &state_url, 200),
        ("reading under another name", &["-H", "Host: evil.example"], &state_url, 403),
        ("reading from another page", &["-H", foreign], &state_url, 403),
        ("changing without a token", &["-X", "POST"], &step, 401),
        ("changing with a wrong token", &["-X", "POST", "-H", "Authorization: Bearer x"], &step, 401),
        ("changing from another page, token and all", &["-X", "POST", "-H", &bearer, "-H", foreign], &step, 403),
        ("changing under another name", &["-X", "POST", "-H", &bearer, "-H", "Host: evil.example"], &step, 403),
    ];
    for (what, arguments, url, status) in cases {
        let answer = curl(arguments, url)?;
        ensure!(answer.status == *status, "{what}: {} instead of {status}: {}", answer.status, answer.body);
    }
    ensure!(
        lab.report()?.checks.iter().all(|check| check.outcome.as_deref() == Some("open")),
        "nothing of it had effect"
    );
    let answer = curl(&["-X", "POST", "-H", &bearer, "-H", &own], &step)?;
    ensure!((200..300).contains(&answer.status), "with token and own origin: {answer:?}");
    ensure!(lab.report()?.checks.iter().all(|check| check.outcome.as_deref() == Some("dropped")), "step 1 is in force");
    Ok(())
}

#[test]
fn another_user_of_the_machine_gets_nowhere() -> Result<()> {
    let state = tempfile::tempdir()?;
    std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o755))?;
    let lab = Lab::start(state.path(), &[])?;
    let as_nobody = |program: &str, arguments: &[&str]| {
        shell::run(Command::new(program).args(arguments).uid(NOBODY).gid(NOBODY).current_dir("/"), None)
    };
    let kubeconfig = lab.kubeconfig.to_string_lossy().into_owned();
    let ran = as_nobody("cat", &[&kubeconfig])?;
    ensure!(ran.status != Some(0), "the kubeconfig is readable to others");
    let post = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST"];
    let step = format!("{}/api/v1/lesson/steps/1", lab.url);
    let ran = as_nobody("curl", &[&post[..], &[&step]].concat())?;
    ensure!(ran.stdout == "401", "another user's change was answered with {ran:?}");
    let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", lab.pid()))?;
    ensure!(!command_line.contains(&lab.token), "the token stands in the process list");
    for entry in walk(state.path())? {
        let metadata = entry.symlink_metadata()?;
        let readable = metadata.is_file() && metadata.permissions().mode() & 0o077 != 0;
        let reachable = as_nobody("cat", &[&entry.to_string_lossy()])?.status == Some(0);
        ensure!(!readable || !reachable, "{} is readable to others", entry.display());
    }
    Ok(())
}

fn walk(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(walk(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
