//! Headless Chromium, driven through WebDriver.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::{Client, ClientBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::shell::root;

/// A desktop window cannot be narrower, in pixels; below, the browser plays a telephone.
const NARROWEST_WINDOW: u32 = 500;

/// A browser window. Ends with [`Browser::close`]; dropped, its processes are ended hard.
pub struct Browser {
    driver: Child,
    _profile: TempDir,
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
        Ok(Self { driver, _profile: profile, client })
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
        // Chromium ends with its driver; after `close` there is nothing left to end.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
