//! Paths, standard input and live clusters become objects that know where they come from.

mod twice;
mod walk;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use signalbox_policy::Cluster;
use signalbox_policy::documents::{self, DocumentError, MAX_BYTES};

use crate::error::Error;
use crate::source::Origin;
use crate::streams::Streams;

/// What standard input is called in messages.
const STANDARD_INPUT: &str = "<standard input>";

/// What to do with a chart.
const HELM: &str = "render it first: helm template CHART | signalbox analyze -";

/// Lists a live cluster's objects. The commands know no Kubernetes client: whoever starts them brings one.
pub trait Live {
    /// All objects that bear on policies; kinds that the cluster lacks are left out.
    ///
    /// # Errors
    /// Where the cluster cannot be reached, or may not be read.
    fn objects(
        &self,
        kubeconfig: &Path,
        context: Option<&str>,
    ) -> Result<Vec<Value>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Where the objects come from.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Files or folders with manifests (*.yaml, *.yml, *.json), `-` for standard input
    #[arg(value_name = "PATH", required_unless_present = "kubeconfig")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Which live cluster to read.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct ClusterArgs {
    /// Read a live cluster with this kubeconfig; manifests of PATH stand in for its objects of the same name
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one]
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub(crate) context: Option<String>,
}

/// All that was read.
#[derive(Clone, Default)]
pub(crate) struct Input {
    /// In the order of the paths, files sorted. Of two with one name the later one counts.
    pub objects: Vec<Value>,
    /// Where each object comes from.
    pub origins: Vec<Origin>,
    /// Documents that could not be read.
    pub broken: Vec<DocumentError>,
}

impl Input {
    /// Reads what the arguments name.
    pub(crate) fn load(args: &Args, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Self, Error> {
        let mut input = Self::default();
        if let Some(kubeconfig) = &args.cluster.kubeconfig {
            let objects = live.objects(kubeconfig, args.cluster.context.as_deref()).map_err(Error::Live)?;
            input.origins.resize(objects.len(), Origin::Cluster);
            input.objects = objects;
        } else if args.paths.is_empty() {
            return Err(Error::NoInput);
        }
        if args.paths.iter().filter(|path| is_standard_input(path)).count() > 1 {
            return Err(Error::StandardInputTwice);
        }
        for path in &args.paths {
            input.add(path, streams)?;
        }
        Ok(input)
    }

    /// Reads one path.
    pub(crate) fn read(path: &Path, streams: &mut Streams<'_>) -> Result<Self, Error> {
        let mut input = Self::default();
        input.add(path, streams)?;
        Ok(input)
    }

    fn add(&mut self, path: &Path, streams: &mut Streams<'_>) -> Result<(), Error> {
        if is_standard_input(path) {
            let text = bounded(STANDARD_INPUT, streams.input)
                .map_err(|source| Error::Read { path: PathBuf::from(STANDARD_INPUT), source })?;
            let text = text?;
            let name: Arc<str> = STANDARD_INPUT.into();
            self.add_text(&name, Some(text.clone().into()), &text, Named::ByItself, streams);
            return Ok(());
        }
        let about = std::fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        if !about.is_dir() {
            let text = read_file(path).map_err(|source| Error::Read { path: path.to_owned(), source })??;
            self.add_text(&path.display().to_string().into(), None, &text, Named::ByItself, streams);
            return Ok(());
        }
        let files = walk::manifests(path)?;
        if files.is_empty() {
            return Err(Error::NoManifests(path.to_owned()));
        }
        let first = self.objects.len();
        for file in &files {
            match read_file(file) {
                Ok(Ok(text)) => {
                    self.add_text(&file.display().to_string().into(), None, &text, Named::ByFolder, streams);
                }
                // One file that cannot be read does not hide the others.
                Ok(Err(error)) => self.broken.push(whole_file(file, error.to_string())),
                Err(error) => self.broken.push(whole_file(file, error.to_string())),
            }
        }
        twice::tell(self, first, path, &files, streams);
        Ok(())
    }

    fn add_text(&mut self, name: &Arc<str>, kept: Option<Arc<str>>, text: &str, named: Named, streams: &mut Streams) {
        let results = documents::locate_documents(text, name);
        for result in results {
            match result {
                Ok(found) if named == Named::ByFolder && !is_manifest(&found.value) => {
                    let document = found.document;
                    streams.note(&format!("note: {name}: document {document} is no Kubernetes object; passed over"));
                }
                Ok(found) => {
                    self.objects.push(found.value);
                    self.origins.push(Origin::Text {
                        name: name.clone(),
                        text: kept.clone(),
                        document: found.document,
                        line: found.line,
                        path: found.path,
                    });
                }
                Err(error) if named == Named::ByFolder && error.reason == documents::NO_OBJECT => {
                    let document = error.document;
                    streams.note(&format!("note: {name}: document {document} is no Kubernetes object; passed over"));
                }
                Err(mut error) => {
                    if error.reason == documents::TEMPLATE {
                        error.remedy = HELM.into();
                    }
                    self.broken.push(error);
                }
            }
        }
    }

    /// Leaves objects out.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&Value) -> bool) {
        let kept: Vec<bool> = self.objects.iter().map(is_kept).collect();
        let mut flags = kept.iter();
        self.objects.retain(|_| flags.next().is_none_or(|kept| *kept));
        let mut flags = kept.iter();
        self.origins.retain(|_| flags.next().is_none_or(|kept| *kept));
    }

    /// The cluster that the objects make.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::from_objects(&self.objects)
    }

    /// Tells on standard error what could not be read.
    pub(crate) fn complain(&self, streams: &mut Streams<'_>) {
        for error in &self.broken {
            streams.note(&format!("error: {error}"));
        }
    }
}

/// Whether somebody named the text itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    ByItself,
    /// It was found in a folder, where other things lie, too.
    ByFolder,
}

/// The groups of the API whose kinds are policies.
const POLICY_GROUPS: &[&str] =
    &["networking.k8s.io", "policy.networking.k8s.io", "projectcalico.org", "crd.projectcalico.org"];

/// Whether an object of a folder wants to be one of Kubernetes'. The API takes none without a kind, and folders hold much that
/// has none: charts, values, the settings of some tool. Only what looks like a policy that has lost its kind is not
/// passed over.
fn is_manifest(value: &Value) -> bool {
    let group = value.get("apiVersion").and_then(Value::as_str).and_then(|version| version.split_once('/'));
    let is_policy = group.is_some_and(|(group, _)| POLICY_GROUPS.contains(&group));
    value.get("kind").is_some() || is_policy || value.pointer("/spec/podSelector").is_some()
}

pub(crate) fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

fn whole_file(path: &Path, reason: String) -> DocumentError {
    DocumentError {
        source_name: path.display().to_string(),
        document: 1,
        line: 1,
        column: 1,
        reason,
        remedy: "check the file and its permissions".into(),
    }
}

/// Reads a file, or standard input.
pub(crate) fn read_text(path: &Path, streams: &mut Streams<'_>) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    if is_standard_input(path) {
        return bounded(STANDARD_INPUT, streams.input).map_err(failed)?;
    }
    read_file(path).map_err(failed)?
}

/// Reads a text file, as long as it is no longer than what is read.
pub(crate) fn read_file(path: &Path) -> std::io::Result<Result<String, Error>> {
    let name = path.display().to_string();
    bounded(&name, &mut std::fs::File::open(path)?)
}

/// Reads a text to its end or to the bound.
pub(crate) fn bounded(name: &str, from: &mut dyn Read) -> std::io::Result<Result<String, Error>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Ok(Err(Error::TooLong { name: name.to_owned(), max: MAX_BYTES }));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("byte {at} is not UTF-8; save it as UTF-8"))
    })?;
    Ok(Ok(text))
}
