//! Runs a command line in this process.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;
use signalbox_analysis::Command;
use signalbox_analysis::input::Live;
use signalbox_analysis::streams::{Paint, Progress, Streams};

#[derive(Debug, Parser)]
#[command(name = "signalbox")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Outcome {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// A cluster that has these objects.
pub struct Objects(pub Vec<Value>);

impl Live for Objects {
    fn objects(&self, _: &Path, _: Option<&str>) -> Result<Vec<Value>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.clone())
    }
}

/// Runs `signalbox ARGS`.
pub fn signalbox<A: AsRef<std::ffi::OsStr>>(args: &[A]) -> Outcome {
    signalbox_with(args, "")
}

/// The same with something on standard input.
pub fn signalbox_with<A: AsRef<std::ffi::OsStr>>(args: &[A], input: &str) -> Outcome {
    signalbox_live(args, input, &Objects(Vec::new()))
}

/// The same with a live cluster.
pub fn signalbox_live<A: AsRef<std::ffi::OsStr>>(args: &[A], input: &str, live: &dyn Live) -> Outcome {
    let args = std::iter::once(std::ffi::OsStr::new("signalbox")).chain(args.iter().map(AsRef::as_ref));
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return Outcome { code: 2, out: String::new(), err: error.to_string() },
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        input: &mut input.as_bytes(),
        out: &mut out,
        err: &mut err,
        paint: Paint::Plain,
        progress: Progress::Hidden,
    };
    let result = signalbox_analysis::run(&cli.command, live, &mut streams);
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    let (code, mut err) = match result {
        Ok(exit) => (exit as u8, text(err)),
        Err(error) => (2, text(err) + &format!("error: {error}\n")),
    };
    err.retain(|c| c != '\r');
    Outcome { code, out: text(out), err }
}

impl Outcome {
    /// The output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A folder with these files, which goes when it is dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    pub fn text(&self) -> String {
        self.path().display().to_string()
    }
}

/// A public suite, unpacked; `None`, said loudly, where it is not at hand.
pub fn suite(name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let folder = std::env::var_os("SIGNALBOX_SUITES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites"), PathBuf::from);
    let file = folder.join(format!("{name}.tar.xz"));
    if !file.is_file() {
        let is_accepted = std::env::var_os("SIGNALBOX_SUITES").is_some_and(|folder| folder == "absent");
        assert!(
            is_accepted,
            "{} is not there: accept with SIGNALBOX_SUITES=absent that it is not checked",
            file.display()
        );
        eprintln!("SKIPPED: SIGNALBOX_SUITES=absent, nothing of the suite {name} was checked");
        return None;
    }
    let unpacked = tempfile::tempdir().expect("a temporary folder");
    let status = std::process::Command::new("tar").arg("-xJf").arg(&file).arg("-C").arg(unpacked.path()).status();
    assert!(status.expect("tar runs").success());
    let path = unpacked.path().join(name);
    Some((unpacked, path))
}
