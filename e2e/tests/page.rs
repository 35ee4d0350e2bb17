//! The page in a real browser: the lesson by clicks, why, a broken policy, a lost connection. Screenshots lie in `target/e2e/`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fantoccini::Locator;
use fantoccini::key::Key;
use nix::sys::signal::Signal;
use signalbox_api::flow::Direction;
use signalbox_e2e::browser::{Browser, run};
use signalbox_e2e::lab::{Lab, free_port};
use signalbox_e2e::lesson::{self, STEPS, Step};

const CELL: &str = "//td[@data-key and starts-with(@aria-label, '{}')]";

async fn open(lab: &Lab, width: u32, height: u32, scheme: &str) -> Result<Browser> {
    Browser::open_lab(lab, "", width, height, scheme).await
}

async fn click_step(browser: &Browser, number: u32) -> Result<()> {
    let button = format!("//div[@aria-label='Steps of the lesson']//button[span[text()='{number}']]");
    browser.client.find(Locator::XPath(&button)).await?.click().await?;
    Ok(())
}

async fn sentence(browser: &Browser, heading: &str) -> Result<String> {
    let cell = browser.client.find(Locator::XPath(&CELL.replace("{}", heading))).await?;
    cell.attr("aria-label").await?.context("a cell has a sentence")
}

#[test]
fn the_lesson_by_clicks_changes_cells_and_lines_without_a_reload() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    run(async {
        let browser = open(&lab, 1400, 1000, "light").await?;
        browser.client.execute("window.sameDocument = true", Vec::new()).await?;
        every_cell_shows_the_table(&browser, &STEPS[0]).await?;
        browser.screenshot("matrix-step-0-light").await?;
        for step in &STEPS[1..] {
            click_step(&browser, step.number).await?;
            browser.tally(step.open.len()).await?;
            every_cell_shows_the_table(&browser, step).await?;
            browser.screenshot(&format!("matrix-step-{}-light", step.number)).await?;
            if step.number == 2 {
                why_names_the_side_that_shuts(&browser).await?;
            }
        }
        lines_follow(&browser).await?;
        let same = browser.client.execute("return window.sameDocument === true", Vec::new()).await?;
        ensure!(same.as_bool() == Some(true), "the page was loaded anew");
        browser.close().await
    })
}

/// Waits until each of the 18 checks' cells shows what the lesson's table has: colour and sentence, and of a shut one the side.
async fn every_cell_shows_the_table(browser: &Browser, step: &Step) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let shown = browser
            .value("[...document.querySelectorAll('td[data-key]')].map(it => [it.getAttribute('aria-label'), it.className])")
            .await?;
        let shown: Vec<(String, String)> = serde_json::from_value(shown)?;
        let wrong: Vec<String> = lesson::ALL.iter().filter_map(|check| differs(&shown, step, check)).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "step {}, in the page:\n{}", step.number, wrong.join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a check's cells, one for each port, show and should not.
fn differs(shown: &[(String, String)], step: &Step, (from, to): &(&str, &str)) -> Option<String> {
    let heading = format!("{from} to {to} port ");
    let ports = if *to == "outside/internet" { 2 } else { 1 };
    let (lamp, words) = match step.stopped_at(from, to) {
        None => ("lamp-open", ": open, in "),
        Some(Direction::Egress) => ("lamp-shut", ": dropped, by egress polic"),
        Some(Direction::Ingress) => ("lamp-shut", ": dropped, by ingress polic"),
    };
    let cells: Vec<_> = shown.iter().filter(|(sentence, _)| sentence.starts_with(&heading)).collect();
    let right = |(sentence, class): &&&(String, String)| {
        let doubted = sentence.contains("disagree") || sentence.contains("not settled");
        class.split_whitespace().any(|it| it == lamp) && sentence.contains(words) && !doubted
    };
    let same = cells.len() == ports && cells.iter().all(|cell| right(&cell));
    (!same).then(|| format!("{from} to {to}: {ports} with {lamp} and {words:?} expected, and not {cells:?}"))
}

/// After step 2 web's egress is open and the cell is still shut: by the ingress of dbsvc.
async fn why_names_the_side_that_shuts(browser: &Browser) -> Result<()> {
    let heading = "frontend/web to backend/dbsvc port 9000";
    let text = sentence(browser, heading).await?;
    ensure!(text.contains("dropped, by ingress policy backend/zero-trust"), "{text}");
    let cell = browser.client.find(Locator::XPath(&CELL.replace("{}", heading))).await?;
    cell.send_keys(&Key::Enter.to_string()).await?;
    browser.until("the panel", "document.querySelector('aside.why')").await?;
    let panel = browser.client.find(Locator::Css("aside.why")).await?.text().await?;
    for word in ["Ingress: into backend/dbsvc", "backend/zero-trust", "Allowed by", "frontend/web", "agree"] {
        ensure!(panel.contains(word), "no {word:?} in the panel:\n{panel}");
    }
    browser.screenshot("why-step-2-light").await?;
    browser.client.active_element().await?.send_keys(&Key::Escape.to_string()).await?;
    browser.until("the panel closes", "!document.querySelector('aside.why')").await
}

/// The map draws open and shut lines as the policies have them, and connections that run along them.
async fn lines_follow(browser: &Browser) -> Result<()> {
    browser.client.find(Locator::LinkText("Map")).await?.click().await?;
    let count = |class: &str| format!("document.querySelectorAll('.tracks .track.is-{class}').length");
    browser.until("open lines", &format!("{} > 0 && {} > 0", count("open"), count("shut"))).await?;
    let before = browser.client.execute(&format!("return {}", count("open")), Vec::new()).await?;
    browser.until("a connection runs", "document.querySelector('.runners .runner')").await?;
    browser.screenshot("map-step-4-light").await?;
    click_step(browser, 1).await?;
    browser.until("no line is open", &format!("{} === 0", count("open"))).await?;
    browser.screenshot("map-step-1-light").await?;
    click_step(browser, 4).await?;
    browser.until("the lines are back", &format!("{} === {before}", count("open"))).await
}

#[test]
fn a_broken_policy_shows_its_error_where_it_is_and_nothing_typed_is_lost() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    lab.apply_step("1-zero-trust.yaml")?;
    run(async {
        let browser = Browser::open(1400, 1000, "dark").await?;
        browser.client.goto(&lab.link()).await?;
        browser.tally(0).await?;
        browser.client.find(Locator::LinkText("Policies")).await?.click().await?;
        let list = "//section[@aria-label='List of policies']//a[.//span[contains(text(), 'zero-trust')]]";
        browser.client.wait().for_element(Locator::XPath(list)).await?.click().await?;
        let field = browser.client.wait().for_element(Locator::Css("textarea[aria-label='Manifest, YAML']")).await?;
        // At its very end: a line that is no YAML at all.
        field.send_keys(&(Key::Control + &Key::End.to_string())).await?;
        field.send_keys("\n   - [broken").await?;
        browser
            .until("an error with its line", "/Line \\d+/.test(document.querySelector('#faults').textContent)")
            .await?;
        ensure!(field.attr("aria-invalid").await?.as_deref() == Some("true"));
        browser.screenshot("policy-broken-dark").await?;
        browser.client.refresh().await?;
        let typed = "document.querySelector('textarea')?.value.includes('[broken')";
        browser.until("what was typed is still there", typed).await?;
        ensure!(lab.report()?.agree, "nothing broken was applied");

        // A policy that YAML can read and Kubernetes refuses.
        set_port(&browser, "port: 0").await?;
        browser
            .until("the field at fault", "document.querySelector('#faults').textContent.includes('ports[0].port')")
            .await?;
        browser.screenshot("policy-invalid-dark").await?;

        // Mended and changed. Applied, it shows in the cluster.
        set_port(&browser, "port: 5353").await?;
        let apply = "//button[normalize-space()='Apply' and not(@disabled)]";
        browser.client.wait().for_element(Locator::XPath(apply)).await?.click().await?;
        browser.until("the page says so", "document.body.textContent.includes('Applied.')").await?;
        let there =
            lab.kubectl(&["get", "networkpolicy", "-A", "-o", "jsonpath={.items[*].spec.egress[*].ports[*].port}"])?;
        ensure!(there.contains("5353"), "the cluster has {there}");
        browser.screenshot("policy-applied-dark").await?;
        browser.close().await
    })
}

/// Takes the broken line out and writes another port, as typing would: by the field's own input event.
async fn set_port(browser: &Browser, port: &str) -> Result<()> {
    let script = "const field = document.querySelector('textarea');
        const lines = field.value.split('\\n').filter(line => !line.includes('[broken'));
        field.value = lines.join('\\n').replace(/port: \\d+/, arguments[0]);
        field.dispatchEvent(new Event('input', { bubbles: true }));";
    browser.client.execute(script, vec![port.into()]).await?;
    Ok(())
}

#[test]
fn a_lost_connection_shows_itself_and_heals() -> Result<()> {
    let state = tempfile::tempdir()?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let lab = Lab::start_on(&listen, state.path(), &[])?;
    run(async {
        let browser = open(&lab, 1200, 900, "light").await?;
        browser.client.execute("window.sameDocument = true", Vec::new()).await?;
        lab.end(Signal::SIGKILL)?;
        let header = "document.querySelector('header').textContent";
        browser.until("the loss shows", &format!("/[Rr]econnect|lost/.test({header})")).await?;
        browser.screenshot("connection-lost-light").await?;
        let lab = Lab::start_on(&listen, state.path(), &[])?;
        browser.until("it heals", &format!("!/[Rr]econnect|lost/.test({header})")).await?;
        lab.apply_step("1-zero-trust.yaml")?;
        browser.tally(0).await?;
        let same = browser.client.execute("return window.sameDocument === true", Vec::new()).await?;
        ensure!(same.as_bool() == Some(true), "the page was loaded anew");
        browser.close().await
    })
}

/// What is looked at: a name, what is opened by hash, what must show then, and what is done to it.
const VIEWS: [(&str, &str, &str, &str); 7] = [
    ("matrix", "#/matrix", "table.grid", ""),
    ("why", "#/matrix", "aside.why .sides", "document.querySelector('td.lamp-shut').click()"),
    ("map", "#/map", ".tracks .track", ""),
    (
        "map-why",
        "#/map",
        "aside.why .sides",
        "document.querySelector('.tracks .track').dispatchEvent(new MouseEvent('click', { bubbles: true }))",
    ),
    ("policies", "#/policies", ".policy-list a", ""),
    ("editor", "#/policies/frontend/web", "textarea", ""),
    (
        "lesson",
        "#/matrix",
        "#lesson-text:not([hidden])",
        "(() => {
        if (document.querySelector('#lesson-text').hidden) document.querySelector('.fold').click();
        setTimeout(() => { document.querySelector('.yaml').open = true; }, 0);
    })()",
    ),
];

/// Whatever sticks out of the page sideways and does not lie in something that scrolls.
const TOO_WIDE: &str = "[...document.querySelectorAll('body *')].filter(it => {
    const box = it.getBoundingClientRect();
    if (!it.checkVisibility() || box.width === 0 || box.right <= document.documentElement.clientWidth + 1) return false;
    for (let up = it.parentElement; up; up = up.parentElement) {
        if (getComputedStyle(up).overflowX !== 'visible') return false;
    }
    return getComputedStyle(it).position !== 'absolute';
}).map(it => `${it.tagName} ${it.className.baseVal ?? it.className}`).slice(0, 5)";

#[test]
fn every_view_fits_wide_and_narrow_light_and_dark() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    for step in &STEPS[1..=3] {
        lab.apply_step(step.manifest.expect("steps after 0 have a manifest"))?;
    }
    run(async {
        for (width, height, size) in [(1400, 900, "wide"), (390, 844, "narrow")] {
            for scheme in ["light", "dark"] {
                let browser = Browser::open(width, height, scheme).await?;
                browser.client.goto(&lab.link()).await?;
                browser.tally(STEPS[3].open.len()).await?;
                for (view, hash, shown, action) in VIEWS {
                    browser.client.execute("location.hash = arguments[0]", vec![hash.into()]).await?;
                    browser.until("no panel", "!document.querySelector('aside.why')").await?;
                    if !action.is_empty() {
                        let there = action.split('\'').nth(1).context("an action names what it is done to")?;
                        browser.until(there, &format!("document.querySelector(\"{there}\")")).await?;
                        browser.client.execute(action, Vec::new()).await?;
                    }
                    browser.until(&format!("the view {view}"), &format!("document.querySelector('{shown}')")).await?;
                    browser.screenshot(&format!("{view}-{size}-{scheme}")).await?;
                    let overflow =
                        browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
                    let overflow = overflow.await?;
                    ensure!(overflow.as_i64() <= Some(0), "{view} {size}: the page is {overflow} px too wide");
                    let wide = browser.value(TOO_WIDE).await?;
                    ensure!(wide.as_array().is_some_and(Vec::is_empty), "{view} {size}: cut off or too wide: {wide}");
                }
                browser.close().await?;
            }
        }
        Ok(())
    })
}
