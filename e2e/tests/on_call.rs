//! The on-call guide: each command of it, in its order, prints what the guide shows, and the page says what its pictures say. The pictures
//! themselves lie in `target/e2e/on-call/` afterwards: `docs/on-call/` has them from there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fantoccini::Locator;
use fantoccini::key::Key;
use signalbox_e2e::browser::{Browser, run};
use signalbox_e2e::guide::{self, What};
use signalbox_e2e::lab::Lab;
use signalbox_e2e::shell::root;

/// Pods that a command has just asked for take a moment.
const WITHIN: Duration = Duration::from_secs(15);

/// A picture is of what is, not of how it became so.
const STILL: &str = "!document.getAnimations().some(it =>
    it.playState === 'running' && it.effect.getComputedTiming().iterations !== Infinity)";

#[test]
fn what_the_guide_shows_is_what_is_printed() -> Result<()> {
    let document = std::fs::read_to_string(root().join("docs/on-call.md"))?;
    let steps = guide::read(&document)?;
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--empty"])?;
    let (mut commands, mut pictures) = (0, 0);
    run(async {
        let browser = Browser::open(1280, 1000, "light").await?;
        browser.client.goto(&lab.link()).await?;
        for step in &steps {
            let place = || format!("docs/on-call.md:{}", step.line);
            match &step.what {
                What::Command { typed, printed } => {
                    command(&lab, typed, printed).with_context(place)?;
                    commands += 1;
                }
                What::Picture { file, cell, says } => {
                    picture(&browser, file, cell, says).await.with_context(place)?;
                    pictures += 1;
                }
            }
        }
        browser.close().await
    })?;
    for step in &steps {
        if let What::Picture { file, .. } = &step.what {
            ensure!(
                root().join("docs").join(file).exists(),
                "docs/{file} is not there: take it from target/e2e/{file}"
            );
        }
    }
    ensure!(commands >= 20 && pictures >= 5, "the guide has {commands} commands and {pictures} pictures");
    Ok(())
}

/// What asks may be asked again, until it answers as the guide has it; what changes something is done once.
fn command(lab: &Lab, typed: &str, shown: &[String]) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let printed = guide::run(typed, lab)?;
        if guide::agrees(shown, &printed) {
            return Ok(());
        }
        if !typed.starts_with("signalbox ") || Instant::now() > deadline {
            bail!("$ {typed}\nprinted\n{printed}\nand the guide shows\n{}", shown.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Opens the cell's panel, looks at what it says, and takes the picture.
async fn picture(browser: &Browser, file: &str, cell: &str, says: &str) -> Result<()> {
    // The lesson's text, where a page has one, is no part of the picture.
    let folded = "(document.querySelector('.lesson .fold[aria-expanded=true]')?.click(), true)";
    browser.until("the lesson's text is folded away", folded).await?;
    let label = format!("//td[@data-key and starts-with(@aria-label, '{cell}')]");
    let found = browser.client.wait().at_most(WITHIN).for_element(Locator::XPath(&label)).await?;
    found.send_keys(&Key::Enter.to_string()).await?;
    let quoted = serde_json::to_string(says)?;
    let said = format!("document.querySelector('aside.why')?.textContent.includes({quoted})");
    browser.until(&format!("the panel of {cell} says {says}"), &said).await?;
    browser.until("what has just changed no longer flashes", STILL).await?;
    let name = file.trim_end_matches(".png");
    std::fs::create_dir_all(root().join("target/e2e/on-call"))?;
    browser.screenshot(name).await?;
    browser.client.active_element().await?.send_keys(&Key::Escape.to_string()).await?;
    browser.until("the panel closes", "!document.querySelector('aside.why')").await
}
