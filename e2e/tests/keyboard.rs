//! The page by keyboard alone, in a real browser: nothing here moves the focus or the page but keys.

use anyhow::{Result, bail, ensure};
use fantoccini::key::Key;
use signalbox_e2e::browser::{Browser, run};
use signalbox_e2e::lab::Lab;
use signalbox_e2e::lesson::STEPS;

const TAB: char = '\u{e004}';
const SHIFT: char = '\u{e008}';

/// What a stop of the tab key is, in words, and how it looks there.
const STOP: &str = "(() => {
    const it = document.activeElement;
    if (!it || it === document.body) return '';
    const name = (it.getAttribute('aria-label') || it.labels?.[0]?.textContent || it.textContent || '').trim();
    const box = it.getBoundingClientRect();
    const seen = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    const field = it.closest('.field');
    const drawn = it instanceof SVGElement ? getComputedStyle(it.querySelector('rect')).strokeWidth === '3px'
        : getComputedStyle(field || it).outlineStyle !== 'none';
    return [it.tagName.toLowerCase(), name.replace(/\\s+/g, ' ').slice(0, 60), seen ? 'seen' : 'UNSEEN', drawn ? 'marked' : 'UNMARKED'].join('|');
})()";

async fn open(lab: &Lab, view: &str) -> Result<Browser> {
    Browser::open_lab(lab, view, 1400, 1000, "light").await
}

async fn stop(browser: &Browser) -> Result<String> {
    Ok(browser.value(STOP).await?.as_str().unwrap_or_default().to_owned())
}

async fn tab(browser: &Browser) -> Result<String> {
    browser.press(&[TAB]).await?;
    stop(browser).await
}

/// Tab, until the stop's words begin so.
async fn tab_to(browser: &Browser, wanted: &str) -> Result<()> {
    let mut passed = Vec::new();
    for _ in 0..80 {
        let here = tab(browser).await?;
        if here.starts_with(wanted) {
            return Ok(());
        }
        passed.push(here);
    }
    bail!("Tab never comes to {wanted}: {passed:#?}")
}

async fn key(browser: &Browser, key: Key) -> Result<()> {
    browser.press(&[key.into()]).await
}

/// The page once round, by Tab.
async fn round(browser: &Browser) -> Result<Vec<String>> {
    let mut stops = Vec::new();
    for _ in 0..120 {
        let here = tab(browser).await?;
        if here.is_empty() || stops.first() == Some(&here) {
            return Ok(stops);
        }
        stops.push(here);
    }
    bail!("no end: {stops:#?}")
}

#[test]
fn tab_reaches_everything_and_shows_where_it_is() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let everywhere = [
        "button|Skip to the view",
        "a|Signalbox",
        "a|Matrix",
        "a|Map",
        "a|Policies",
        "summary|live",
        "summary|lab",
        "summary|enforcing",
        "summary|DNS works",
        "summary|round",
        "button|0",
        "button|1",
        "button|2",
        "button|3",
        "button|4",
        "button|Hide text",
    ];
    let views: [(&str, &[&str]); 3] = [
        ("matrix", &["input|Filter", "input|Pods by address", "summary|Legend", "td|"]),
        (
            "map",
            &[
                "div|Map, scrolls",
                "g|frontend/web",
                "g|backend/dbsvc",
                "g|outside/database",
                "g|outside/users",
                "summary|The map as text",
            ],
        ),
        ("policies", &["a|New"]),
    ];
    run(async {
        for (view, own) in views {
            let browser = open(&lab, view).await?;
            let stops = round(&browser).await?;
            for wanted in everywhere.iter().chain(own) {
                let found = stops.iter().any(|stop| stop.starts_with(wanted));
                ensure!(found, "{view}: Tab does not reach {wanted}: {stops:#?}");
            }
            let cells = stops.iter().filter(|stop| stop.starts_with("td|")).count();
            ensure!(cells <= 1, "{view}: the matrix is one stop, not {cells}");
            for stop in &stops {
                ensure!(stop.ends_with("|seen|marked"), "{view}: out of sight or not marked: {stop}");
            }
            browser.close().await?;
        }
        Ok(())
    })
}

#[test]
fn arrows_move_in_the_matrix_and_the_lesson_goes_by_enter_and_space() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    run(async {
        let browser = open(&lab, "matrix").await?;
        tab_to(&browser, "td|").await?;
        let here = async || -> Result<(i64, i64)> {
            let at = "(() => { const it = document.activeElement.closest('td'); return [it.parentElement.rowIndex, it.cellIndex]; })()";
            let at = browser.value(at).await?;
            Ok((at[0].as_i64().unwrap_or(-1), at[1].as_i64().unwrap_or(-1)))
        };
        let first = here().await?;
        let moves = [
            (Key::Right, (0, 1)),
            (Key::Down, (1, 1)),
            (Key::Down, (2, 1)),
            (Key::Left, (2, 0)),
            // The edge holds.
            (Key::Left, (2, 0)),
            (Key::Up, (1, 0)),
            (Key::End, (1, 5)),
            (Key::Right, (1, 5)),
            (Key::Home, (1, 0)),
            (Key::PageDown, (3, 0)),
            (Key::PageUp, (0, 0)),
            (Key::Right, (0, 1)),
        ];
        for (pressed, (down, right)) in moves {
            key(&browser, pressed).await?;
            let now = here().await?;
            ensure!(now == (first.0 + down, first.1 + right), "{pressed:?} led from {first:?} to {now:?}");
        }
        // Away and back: the grid remembers where one was.
        let cell = stop(&browser).await?;
        browser.press(&[SHIFT, TAB]).await?;
        ensure!(!stop(&browser).await?.starts_with("td|"), "out of the grid at one stroke");
        ensure!(tab(&browser).await? == cell, "and back to the same cell");

        key(&browser, Key::Enter).await?;
        browser.until("the panel", "document.activeElement?.id === 'why-title'").await?;
        ensure!(tab(&browser).await?.starts_with("button|Close"), "the panel's first stop closes it");
        key(&browser, Key::Space).await?;
        browser.until("the panel closes", "!document.querySelector('aside.why')").await?;
        ensure!(stop(&browser).await? == cell, "the focus is back on its cell");

        browser.client.refresh().await?;
        browser.tally(STEPS[0].open.len()).await?;
        tab_to(&browser, "button|1").await?;
        key(&browser, Key::Enter).await?;
        browser.tally(STEPS[1].open.len()).await?;
        tab_to(&browser, "button|2").await?;
        key(&browser, Key::Space).await?;
        browser.tally(STEPS[2].open.len()).await?;
        tab_to(&browser, "button|Hide text").await?;
        key(&browser, Key::Enter).await?;
        browser.until("the text folds", "document.querySelector('#lesson-text').hidden").await?;
        browser.close().await
    })
}

#[test]
fn the_maps_lines_are_walked_by_arrows_and_asked_by_enter() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    run(async {
        let browser = open(&lab, "matrix").await?;
        tab_to(&browser, "a|Map").await?;
        key(&browser, Key::Enter).await?;
        browser.until("the map", "document.querySelectorAll('.tracks .track').length === 18").await?;
        tab_to(&browser, "g|frontend/web").await?;
        let mut walked = Vec::new();
        for _ in 0..6 {
            key(&browser, Key::Right).await?;
            let line = browser.value("document.activeElement.getAttribute('aria-label')").await?;
            walked.push(line.as_str().unwrap_or_default().to_owned());
            let look = "getComputedStyle(document.activeElement.querySelector('.line')).strokeWidth";
            ensure!(browser.value(look).await? == "3.2px", "the line under the focus is marked");
        }
        let first = walked[0].clone();
        ensure!(walked.pop() == Some(first), "five lines leave web, then the first comes again: {walked:#?}");
        ensure!(walked.iter().all(|line| line.contains("web") && line.ends_with(": open")), "{walked:#?}");
        browser.screenshot("map-line-by-keyboard-light").await?;

        key(&browser, Key::End).await?;
        let last = browser.value("document.activeElement.getAttribute('aria-label')").await?;
        key(&browser, Key::Enter).await?;
        browser.until("the panel", "document.activeElement?.id === 'why-title'").await?;
        key(&browser, Key::Escape).await?;
        browser.until("the panel closes", "!document.querySelector('aside.why')").await?;
        let back = browser.value("document.activeElement.getAttribute('aria-label')").await?;
        ensure!(back == last, "the focus is back on its line, not on {back}");
        key(&browser, Key::Escape).await?;
        ensure!(stop(&browser).await?.starts_with("g|frontend/web"), "and then back on its pod");
        key(&browser, Key::Enter).await?;
        let pinned = "document.activeElement.getAttribute('aria-pressed') === 'true'";
        browser.until("the pod is pinned", pinned).await?;
        browser.close().await
    })
}

#[test]
fn a_policy_is_written_applied_and_deleted_by_keyboard() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let policies = || lab.kubectl(&["get", "networkpolicy", "-A", "-o", "name"]);
    run(async {
        let browser = open(&lab, "policies").await?;
        tab_to(&browser, "a|New").await?;
        key(&browser, Key::Enter).await?;
        browser.until("the editor", "document.querySelector('textarea')").await?;
        tab_to(&browser, "button|Let in everyone").await?;
        key(&browser, Key::Enter).await?;
        browser.until("the template", "document.querySelector('textarea').value.includes('let-in-all')").await?;
        tab_to(&browser, "textarea|Manifest").await?;
        browser.press(&[Key::Control.into(), Key::End.into()]).await?;
        for letter in "# typed".chars() {
            browser.press(&[letter]).await?;
        }
        browser.until("what was typed", "document.querySelector('textarea').value.endsWith('# typed')").await?;
        // The field does not keep the keyboard: Tab leads on.
        tab_to(&browser, "button|Create").await?;
        key(&browser, Key::Enter).await?;
        browser.until("it is applied", "document.body.textContent.includes('Applied.')").await?;
        ensure!(policies()?.contains("let-in-all"), "the cluster has it");

        tab_to(&browser, "button|Delete…").await?;
        let on = |button: &str| format!("document.activeElement?.textContent.trim() === '{button}'");
        for (pressed, then) in
            [("the safe answer has the focus", "Keep"), ("and back", "Delete…"), ("once more", "Keep")]
        {
            key(&browser, Key::Enter).await?;
            browser.until(pressed, &on(then)).await?;
        }
        browser.press(&[SHIFT, TAB]).await?;
        ensure!(stop(&browser).await?.starts_with("button|Delete|"), "the other answer is the stop before");
        key(&browser, Key::Enter).await?;
        browser.until("it is gone", "!document.querySelector('textarea')").await?;
        ensure!(!policies()?.contains("let-in-all"), "gone from the cluster");
        browser.until("the focus is in the view", "document.activeElement?.tagName === 'MAIN'").await?;
        browser.close().await
    })
}
