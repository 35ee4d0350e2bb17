//! The page as a folder of plain files, for any web server and under any path: the page in the browser alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::artifact::{self, compress};
use crate::step::{artifacts, step};

/// What the page may do until it runs. It may fetch its own parts; `start.js` then forbids every connection, before the
/// page has seen anything of the reader's.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'";

/// Writes the folder.
pub fn write(folder: &Path) -> Result<()> {
    artifact::page()?;
    step(&format!("write the page to {}", folder.display()), || {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for entry in fs::read_dir(artifacts().join("ui"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            // With its compressed copy: only the page's frame is another here.
            if name.starts_with("index.html.") || !path.is_file() {
                continue;
            }
            let target = folder.join(&name);
            if name == "index.html" {
                fs::write(&target, alone(&fs::read_to_string(&path)?)?)
            } else {
                fs::copy(&path, &target).map(|_| ())
            }
            .with_context(|| format!("cannot write {}", target.display()))?;
        }
        compress(&folder.join("index.html"))
    })
}

/// The page's frame with relative addresses, the mark that there is no server, and a policy of its own.
fn alone(html: &str) -> Result<String> {
    let charset = "<meta charset=\"utf-8\">";
    let policy = format!("{charset}\n  <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">");
    let marks = [
        ("<html lang=\"en\">", "<html lang=\"en\" data-alone>"),
        (charset, policy.as_str()),
        ("href=\"/", "href=\""),
        ("src=\"/", "src=\""),
    ];
    let mut html = html.to_owned();
    for (from, to) in marks {
        ensure!(html.contains(from), "assets/ui/index.html has no {from:?}: xtask/src/folder.rs has to follow it");
        html = html.replace(from, to);
    }
    ensure!(
        !html.contains("=\"/"),
        "assets/ui/index.html names a path from the server's root: xtask/src/folder.rs has to follow it"
    );
    Ok(html)
}
