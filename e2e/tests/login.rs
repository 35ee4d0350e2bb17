//! Users of Kubernetes in a real browser: logging in and out, what the page shows one who sees one namespace, and which right is
//! missing. The server runs in this process, on the API that the server's own tests use, which knows whom it is told of.

use anyhow::{Result, ensure};
use bench::{ANN, Bench, PAT, WRONG};
use fantoccini::Locator;
use signalbox_e2e::browser::Browser;

#[expect(dead_code, reason = "the server's own tests use the rest")]
#[path = "../../server/tests/access/bench.rs"]
mod bench;

async fn log_in(browser: &Browser, token: &str) -> Result<()> {
    let field = browser.client.find(Locator::Css("#login-token")).await?;
    field.clear().await?;
    field.send_keys(token).await?;
    browser.client.find(Locator::XPath("//button[text()='Log in']")).await?.click().await?;
    Ok(())
}

async fn open(bench: &Bench, width: u32, height: u32, scheme: &str) -> Result<Browser> {
    let browser = Browser::open(width, height, scheme).await?;
    browser.client.goto(&format!("http://{}/", bench.server.local_addr())).await?;
    browser.until("the form", "document.querySelector('#login-token') === document.activeElement").await?;
    Ok(browser)
}

const IN: &str = "document.querySelector('td[data-key]')";
const TEXT: &str = "document.body.innerText";

#[tokio::test]
async fn one_who_sees_one_namespace_logs_in_and_out() -> Result<()> {
    let bench = Bench::start().await;
    for (width, height, scheme) in [(1400, 900, "light"), (390, 844, "dark")] {
        let name = |what: &str| format!("login-{what}-{width}-{scheme}");
        let browser = open(&bench, width, height, scheme).await?;
        browser.screenshot(&name("form")).await?;
        log_in(&browser, WRONG).await?;
        browser.until("what is wrong", "document.querySelector('.login [role=alert]')").await?;
        let alert = browser.client.find(Locator::Css(".login [role=alert]")).await?.text().await?;
        ensure!(alert.contains("does not accept the token"), "{alert}");
        browser.screenshot(&name("wrong")).await?;
        log_in(&browser, ANN).await?;
        browser.until("the matrix", IN).await?;
        let text = browser.value(TEXT).await?.to_string();
        ensure!(text.contains("plain") && !text.contains("hush") && !text.contains("backend"), "{text}");
        let chip = browser.client.find(Locator::Css("details[data-chip=who] summary")).await?;
        ensure!(chip.text().await?.contains("ann"), "who is logged in");
        chip.click().await?;
        browser.screenshot(&name("matrix")).await?;
        // Where the token is, and where it is not.
        let places =
            "[sessionStorage['signalbox.token'], JSON.stringify(localStorage), document.cookie, location.href]";
        let places = browser.value(places).await?;
        ensure!(places[0] == ANN, "kept in the tab");
        ensure!([1, 2, 3].iter().all(|at| !places[*at].to_string().contains(ANN)), "and nowhere else: {places}");
        browser.client.execute("location.hash = '#/policies/frontend/plain-policy'", Vec::new()).await?;
        browser.until("the missing right", &format!("{TEXT}.includes('You may not update networkpolicies')")).await?;
        let blocked = "[...document.querySelectorAll('.editor .primary, .editor .danger')].every(it => it.disabled)";
        ensure!(browser.value(blocked).await? == true, "what may not be done cannot be pressed");
        browser.screenshot(&name("missing-right")).await?;
        // The chip still hangs open.
        browser.client.find(Locator::XPath("//button[text()='Log out']")).await?.click().await?;
        browser.until("the form again", "document.querySelector('#login-token')").await?;
        ensure!(browser.value("sessionStorage.length").await? == 0, "nothing is kept");
        browser.close().await?;
    }
    bench.end().await;
    Ok(())
}

#[tokio::test]
async fn a_change_needs_the_right_and_a_revoked_token_is_told() -> Result<()> {
    let bench = Bench::start().await;
    let browser = open(&bench, 1400, 900, "dark").await?;
    log_in(&browser, PAT).await?;
    browser.until("the matrix", IN).await?;
    browser.client.execute("location.hash = '#/policies/frontend/plain-policy'", Vec::new()).await?;
    browser.until("the button", "document.querySelector('.editor .danger:not(:disabled)')").await?;
    browser.screenshot("login-may-change-1400-dark").await?;
    browser.client.find(Locator::XPath("//button[text()='Delete…']")).await?.click().await?;
    browser.client.find(Locator::XPath("//button[text()='Delete']")).await?.click().await?;
    browser.until("the policy is gone", &format!("!{TEXT}.includes('plain-policy')")).await?;
    ensure!(!bench.policies().await.iter().any(|policy| policy.contains("plain-policy")), "in the cluster, too");
    let log = bench.audit_log();
    let done =
        log.iter().any(|line| line["stage"] == "done" && line["user"]["name"] == "pat" && line["verb"] == "delete");
    ensure!(done, "{log:?}");
    bench.people.dismiss(PAT);
    browser.until("the form", "document.querySelector('#login-token')").await?;
    let alert = browser.client.find(Locator::Css(".login [role=alert]")).await?.text().await?;
    ensure!(alert.contains("does not accept the token"), "{alert}");
    browser.screenshot("login-revoked-1400-dark").await?;
    browser.close().await?;
    bench.end().await;
    Ok(())
}
