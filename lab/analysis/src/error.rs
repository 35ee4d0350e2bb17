//! Why a command could not do its work.

use std::path::PathBuf;

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path that was named cannot be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A text that is longer than what is read.
    #[error("{name} has more than {max} bytes; split it into several files")]
    TooLong {
        /// The text's name.
        name: String,
        /// How many there may be.
        max: usize,
    },
    /// A folder with more files than are read.
    #[error("{} holds more than {max} manifests; name a smaller folder", path.display())]
    TooManyFiles {
        /// The folder that was named.
        path: PathBuf,
        /// How many there may be.
        max: usize,
    },
    /// A folder without manifests.
    #[error("{}: there is no *.yaml, *.yml or *.json in this folder; name the one with the manifests", .0.display())]
    NoManifests(PathBuf),
    /// Neither paths nor a cluster.
    #[error("nothing to read: name files or folders, `-` for standard input, or a cluster with --kubeconfig")]
    NoInput,
    /// Standard input is wanted twice.
    #[error("standard input can be read once only; name `-` once")]
    StandardInputTwice,
    /// The cluster's objects could not be listed.
    #[error(transparent)]
    Live(Box<dyn std::error::Error + Send + Sync>),
    /// What was read says nothing of what was asked for.
    #[error("{what} is not among the objects{}; {remedy}", hint.as_ref().map(|hint| format!(", but {hint} is")).unwrap_or_default())]
    NotFound {
        /// What was asked for.
        what: String,
        /// Something with a similar name.
        hint: Option<String>,
        /// What to do.
        remedy: &'static str,
    },
    /// A Service of which nothing can be judged.
    #[error("Service {service} {why}; {remedy}")]
    Service {
        /// `namespace/name`.
        service: String,
        /// What is so of it.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// More than a drawing can show.
    #[error("{what}, more than a drawing can show ({max}); choose some with --namespace, or take -o csv or -o json")]
    TooMuchToDraw {
        /// How much there is, of what.
        what: String,
        /// How much there may be.
        max: usize,
    },
    /// An argument that clap cannot check by itself.
    #[error("{0}")]
    Usage(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl From<csv::Error> for Error {
    fn from(error: csv::Error) -> Self {
        Self::Output(error.into())
    }
}
