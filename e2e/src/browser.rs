//! Headless Chromium, driven through WebDriver.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::{Client, ClientBuilder};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::Lab;
use crate::lesson::STEPS;
use crate::processes;
use crate::shell::root;

/// A desktop window cannot be narrower, in pixels; below, the browser plays a telephone.
const NARROWEST_WINDOW: u32 = 500;

/// Runs a test that drives a browser.
pub fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

/// A browser window. Ends with [`Browser::close`]; dropped, its processes are ended hard.
pub struct Browser {
    driver: Child,
    address: String,
    profile: TempDir,
    /// What drives it.
    pub client: Client,
}

impl Browser {
    /// Opens a window of this size, in pixels, that prefers light or dark colours.
    pub async fn open(width: u32, height: u32, scheme: &str) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let profile = tempfile::tempdir()?;
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start chromedriver: apt-get install chromium-driver")?;
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--window-size={width},{height}"));
        if scheme == "dark" {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let mut options = json!({ "binary": "/usr/bin/chromium", "args": arguments });
        if width < NARROWEST_WINDOW {
            let metrics = json!({ "width": width, "height": height, "pixelRatio": 1.0, "touch": false });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let capabilities = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
        let address = format!("http://127.0.0.1:{port}");
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        builder.capabilities(capabilities);
        let client = loop {
            match builder.connect(&address).await {
                Ok(client) => break client,
                Err(error) => ensure!(Instant::now() < deadline, "no browser: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        Ok(Self { driver, address, profile, client })
    }

    /// Opens a view of a lab's page by the link of its `ready` line, and waits for the whole matrix. The empty view is the first.
    pub async fn open_lab(lab: &Lab, view: &str, width: u32, height: u32, scheme: &str) -> Result<Self> {
        let browser = Self::open(width, height, scheme).await?;
        let view = if view.is_empty() { String::new() } else { format!("#/{view}") };
        browser.client.goto(&format!("{}{view}", lab.link())).await?;
        browser.tally(STEPS[0].open.len()).await?;
        Ok(browser)
    }

    /// Waits until the lesson's bar counts this many open connections, and none unknown.
    pub async fn tally(&self, open: usize) -> Result<()> {
        let text = format!("{open} of 18 checks open");
        let script = format!("document.querySelector('.tally')?.textContent.trim() === '{text}'");
        self.until(&format!("the bar says {text}"), &script).await
    }

    /// Drags files or folders of this machine over the middle of the page and lets go of them there. Headless Chromium has no
    /// desktop to drag from: the browser itself is told of the drag, and hands the page what it would hand it then.
    pub async fn drop_files(&self, paths: &[PathBuf]) -> Result<()> {
        let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let centre = self.value("[innerWidth / 2, innerHeight / 2]").await?;
        for kind in ["dragEnter", "dragOver", "drop"] {
            // 1: a copy.
            let data = json!({ "items": [], "files": files, "dragOperationsMask": 1 });
            let params = json!({ "type": kind, "x": centre[0], "y": centre[1], "data": data });
            self.devtools("Input.dispatchDragEvent", &params).await?;
        }
        Ok(())
    }

    /// A command of the browser's own protocol.
    async fn devtools(&self, command: &str, params: &Value) -> Result<()> {
        let session = self.client.session_id().await?.context("the window has a session")?;
        let url = format!("{}/session/{session}/goog/cdp/execute", self.address);
        let body = json!({ "cmd": command, "params": params }).to_string();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--data", &body, &url]);
        let answer = curl.output().context("cannot start curl")?;
        let answer: Value = serde_json::from_slice(&answer.stdout)
            .with_context(|| format!("{command}: {}", String::from_utf8_lossy(&answer.stderr)))?;
        ensure!(answer.pointer("/value/error").is_none(), "{command}: {answer}");
        Ok(())
    }

    /// Saves what the window shows, for people to look at, in `target/e2e/NAME.png`.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let folder = root().join("target/e2e");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(Path::new(name).with_extension("png"));
        std::fs::write(&file, self.client.screenshot().await?)?;
        Ok(file)
    }

    /// Presses these keys together and lets go of them, wherever the focus is: as a person does.
    pub async fn press(&self, keys: &[char]) -> Result<()> {
        let mut actions = KeyActions::new("keyboard".to_owned());
        for value in keys {
            actions = actions.then(KeyAction::Down { value: *value });
        }
        for value in keys.iter().rev() {
            actions = actions.then(KeyAction::Up { value: *value });
        }
        self.client.perform_actions(actions).await.context("the keyboard")
    }

    /// The value of a JavaScript expression.
    pub async fn value(&self, expression: &str) -> Result<Value> {
        Ok(self.client.execute(&format!("return {expression}"), Vec::new()).await?)
    }

    /// Waits until this JavaScript expression is true.
    pub async fn until(&self, what: &str, expression: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let answer = self.client.execute(&format!("return !!({expression})"), Vec::new()).await?;
            if answer.as_bool() == Some(true) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let file = self.screenshot("failed").await?;
                anyhow::bail!("{what}: did not happen; see {}", file.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Closes the window and ends the driver.
    pub async fn close(mut self) -> Result<()> {
        self.client.clone().close().await?;
        self.driver.kill()?;
        self.driver.wait()?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After `close` there is nothing left to end. Else: a driver that is killed leaves its Chromium behind, which is found by
        // the profile that no other one has.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        while let Ok(Some(chromium)) = processes::find(|words| words.contains(&profile.as_str()), None) {
            if processes::signal(chromium, Signal::SIGKILL).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
