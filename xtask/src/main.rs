//! `cargo xtask …`: set-up, build, run and test of Signalbox on a bare machine.
//!
//! - [`step`]: runs commands, says what it does and how long it took.
//! - [`packages`]: Debian packages that are missing.
//! - [`toolchain`]: which cargo builds for the browser and for the kernel.
//! - [`tools`]: programs from crates that are built once, into `.tools/`.
//! - [`stamp`]: skips what has not changed.
//! - [`artifact`]: the page, the kernel programs, the probe, the binary.
//! - [`images`]: OCI images, without a registry.
//! - [`folder`]: the page by itself, for any web server.
//! - [`bench`]: the figures of the engine, of the datapath, and of the server.
//! - [`fuzz`]: a bounded search for what the engine's tests have not thought of.
//! - [`cluster`]: the Kubernetes that the end-to-end tests run on.
//! - [`checks`]: everything that must hold before a change lands.

mod artifact;
mod bench;
mod checks;
mod cluster;
mod folder;
mod fuzz;
mod images;
mod packages;
mod room;
mod stamp;
mod step;
mod toolchain;
mod tools;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::step::root;

/// Builds, runs and tests Signalbox.
#[derive(Parser)]
#[command(name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "Examples:
  cargo xtask lab                       build what has changed, then run the lab
  cargo xtask lab --listen 127.0.0.1:9090
  cargo xtask test                      everything that CI checks
  cargo xtask test lesson               only the tests with `lesson` in their name
  cargo xtask lint                      only the lints of `test`
  cargo xtask test-cluster              the tests on a real Kubernetes
  cargo xtask build                     target/release/signalbox, page and kernel programs inside, and signalbox-enforcer
  cargo xtask images                    target/images: archives for `ctr images import` and `docker load`
  cargo xtask page public               the page alone, for any web server
  cargo xtask fuzz --seconds 600        look for texts that the engine cannot take";

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing, and nothing else.
    Setup,
    /// Builds everything into target/release/signalbox.
    Build,
    /// Makes the OCI images of server, enforcer and probe: archives, without a registry and without a container engine.
    Images {
        /// The folder for them.
        #[arg(long, default_value = "target/images")]
        output: PathBuf,
        /// The image that the cluster of the tests needs, too.
        #[arg(long, hide = true)]
        for_tests: bool,
    },
    /// Writes the page as a folder of plain files that needs no server part: the engine in the browser alone.
    Page {
        /// Where to.
        #[arg(default_value = "target/page")]
        folder: PathBuf,
    },
    /// Builds what has changed and runs the lab. Needs root.
    Lab {
        /// Passed on to `signalbox lab`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Formatting, lock file, licences, lints, then all tests. Needs root.
    Test {
        /// Run only the tests whose name contains one of these, and none of the other checks.
        filters: Vec<String>,
    },
    /// The lints of `test` alone: the workspace, the kernel programs and the page for their targets, and the crates outside the workspace.
    Lint,
    /// All tests on a real Kubernetes of two nodes, those included that take long: the first time it is compiled, which takes some ten minutes.
    /// Needs root.
    TestCluster {
        /// With the images of a release, which take some ten minutes to make.
        #[arg(long)]
        released: bool,
        /// Run only the tests whose name contains one of these.
        filters: Vec<String>,
    },
    /// Fuzzes the engine: any text is read, judged, analysed, linted and compiled.
    Fuzz {
        /// How long.
        #[arg(long, default_value_t = fuzz::IN_CI)]
        seconds: u32,
    },
    /// Measures and rewrites the figures in docs/performance.md. Needs root.
    Figures,
    /// Measures one part and rewrites its figures in docs/performance.md.
    Bench {
        /// Which part.
        part: Part,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    /// The policy engine, natively and in WASM. Needs Node.
    Engine,
    /// The kernel programs, and the way of a policy into the kernel. Needs root.
    Datapath,
    /// `signalbox serve` in front of 10,000 pods: start-up, memory, and changes. Five minutes, besides the build.
    Server,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.task {
        Task::Setup => {
            packages::ensure(packages::BUILD)?;
            packages::ensure(packages::RUN)?;
            tools::bpf_linker()?;
            step::say("everything that a build and a lab need is installed");
            Ok(())
        }
        Task::Lint => checks::lints(),
        Task::Build => artifact::binary().map(|path| step::say(&format!("built {}", path.display()))),
        Task::Images { for_tests: true, .. } => images::for_tests(images::Make::Soon),
        Task::Images { output, .. } => images::write(&output),
        Task::Page { folder } => {
            folder::write(&folder)?;
            step::say(&format!("serve it: python3 -m http.server --directory {}", folder.display()));
            Ok(())
        }
        Task::Lab { arguments } => lab(&arguments),
        Task::Test { filters } => {
            room::ensure(if filters.is_empty() { room::CHECKS } else { room::BUILD })?;
            let pictures = root().join("target/e2e");
            // Those of a run before would pass for what this one saw.
            if pictures.exists() {
                std::fs::remove_dir_all(&pictures).with_context(|| format!("cannot remove {}", pictures.display()))?;
            }
            let result = if filters.is_empty() { checks::everything() } else { checks::tests(&filters) };
            // Also, and above all, where a test has failed.
            if pictures.is_dir() {
                step::say(&format!("what the browser tests saw: {}", pictures.display()));
            }
            result
        }
        Task::TestCluster { released, filters } => {
            checks::on_a_cluster(if released { images::Make::Small } else { images::Make::Soon }, &filters)
        }
        Task::Fuzz { seconds } => fuzz::manifests(seconds),
        Task::Figures => checks::figures(),
        Task::Bench { part: Part::Engine } => bench::engine(),
        Task::Bench { part: Part::Datapath } => bench::datapath(),
        Task::Bench { part: Part::Server } => bench::server(),
    }
}

fn lab(arguments: &[String]) -> Result<()> {
    need_root("the lab makes network namespaces and loads kernel programs")?;
    packages::ensure(packages::RUN)?;
    let binary = artifact::binary()?;
    let error = Command::new(&binary).arg("lab").args(arguments).current_dir(root()).exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}

/// Fails with a remedy unless this process is root.
fn need_root(why: &str) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    if effective != Some("0") {
        bail!("{why}, so this needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask …`, or start a root shell");
    }
    Ok(())
}
