//! The page as a folder, served as any web server would: by Python's, under a path of its own.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::shell::root;

/// A web server without any part of Signalbox's. Ends when dropped.
pub struct Folder {
    server: Child,
    files: TempDir,
    port: u16,
    path: &'static str,
}

impl Folder {
    /// Serves `target/page`, as `cargo xtask page` writes it, under a path of its own.
    pub fn serve() -> Result<Self> {
        Self::serve_at("target/page", "deep/page/")
    }

    /// Serves the page that belongs to a server, without that server.
    pub fn serve_without_server() -> Result<Self> {
        Self::serve_at("target/artifacts/ui", "")
    }

    fn serve_at(page: &str, path: &'static str) -> Result<Self> {
        let page = root().join(page);
        ensure!(page.join("index.html").is_file(), "there is no page: run `cargo xtask page`");
        let files = tempfile::tempdir()?;
        let place = files.path().join("www").join(path.trim_end_matches('/'));
        fs::create_dir_all(place.parent().context("a folder has a parent")?)?;
        std::os::unix::fs::symlink(&page, place)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::create(files.path().join("log"))?;
        let server = Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
            .arg(files.path().join("www"))
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start python3 -m http.server")?;
        let folder = Self { server, files, port, path };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "the web server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(folder)
    }

    /// The page's address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.port, self.path)
    }

    /// What was asked of the server: method and path, in order.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.files.path().join("log"))?;
        let request = |line: &str| line.split('"').nth(1).map(|it| it.trim_end_matches(" HTTP/1.1").to_owned());
        Ok(log.lines().filter_map(request).collect())
    }

    /// A place for files that a test puts in.
    pub fn place(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.files.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
