//! Who changed what: one line of JSON for each step of each change, in a file or on standard output.
//!
//! What is allowed is written down before it is done, so that a disk that is full changes nothing unseen: without the first
//! line nothing is done. The second line says how it ended; where that cannot be written any more, it goes to the server's
//! own log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use signalbox_api::cell::Outcome;
use signalbox_api::rest::ChangeAction;
use signalbox_api::session::Via;

use crate::error::Error;

/// Where the audit log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditLog {
    /// Nowhere. Not with [`super::Kubernetes::allow_apply`].
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// To the end of a file, which only its owner may read.
    File(PathBuf),
}

/// The log.
#[derive(Clone)]
pub struct Audit {
    target: Option<Arc<Mutex<Target>>>,
}

enum Target {
    Stdout,
    File { file: File, torn: bool },
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It is not done: see the reason.
    Refused,
    /// It is about to be done.
    Allowed,
    /// It is done.
    Done,
    /// It could not be done: see the reason.
    Failed,
}

/// What is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// `NetworkPolicy`, `StandIns`, `Round` for a round of probes, or `Probe` for one from inside of the pod that is named.
    pub kind: &'static str,
    /// Absent for a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Absent for a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Who changes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Their name; absent where users are not told apart, and the server's own token was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Their groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// How they logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// The address that the request came from: the proxy's, where one is between.
    pub address: String,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// RFC 3339.
    pub time: String,
    /// The same in all lines of a request, and in its answer's header `X-Request-Id`.
    pub request_id: String,
    /// How far it has come.
    pub stage: Stage,
    /// Who.
    pub user: User,
    /// Kubernetes' verb.
    pub verb: &'static str,
    /// What.
    pub object: Object,
    /// Where a probe goes: `HOST:PORT/PROTOCOL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Judged only.
    pub dry_run: bool,
    /// Who allowed or refused: `SubjectAccessReview`, `--allow-apply`, `--allow-real-pods`, `token`, `view`, `limit`, `enforcer`, or
    /// `Kubernetes API`.
    pub by: &'static str,
    /// What a probe saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<ChangeAction>,
    /// `metadata.resourceVersion` before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// `metadata.resourceVersion` afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(log: &AuditLog) -> Result<Self, Error> {
        let target = match log {
            AuditLog::Off => None,
            AuditLog::Stdout => Some(Target::Stdout),
            AuditLog::File(path) => {
                let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
                let file = opened.map_err(|error| Error::File { path: path.clone(), why: error.to_string() })?;
                Some(Target::File { file, torn: false })
            }
        };
        Ok(Self { target: target.map(|target| Arc::new(Mutex::new(target))) })
    }

    /// Writes a line, and returns when it is on the disk.
    ///
    /// # Errors
    /// Where it is not: the line is in the server's own log instead.
    pub async fn write(&self, entry: Entry) -> io::Result<()> {
        let line = serde_json::to_string(&entry)?;
        let Some(target) = self.target.clone() else {
            tracing::info!(audit = line, "audit");
            return Ok(());
        };
        let text = line.clone();
        let written =
            tokio::task::spawn_blocking(move || target.lock().unwrap_or_else(PoisonError::into_inner).write(&text));
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = &written {
            tracing::error!(%error, audit = line, "the audit log cannot be written");
        }
        written
    }
}

impl Target {
    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}")?;
                out.flush()
            }
            Self::File { file, torn } => {
                // What a full disk took of the line before is no line: the next one begins on its own.
                let start = if *torn { "\n" } else { "" };
                let written =
                    file.write_all(format!("{start}{line}\n").as_bytes()).and_then(|()| file.sync_data_if_possible());
                *torn = written.is_err();
                written
            }
        }
    }
}

/// Devices such as `/dev/full` and pipes have nothing to sync.
trait SyncIfPossible {
    fn sync_data_if_possible(&self) -> io::Result<()>;
}

impl SyncIfPossible for File {
    fn sync_data_if_possible(&self) -> io::Result<()> {
        match self.sync_data() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }
}

/// Now, as the log has it.
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stage: Stage) -> Entry {
        Entry {
            time: now(),
            request_id: "r".to_owned(),
            stage,
            user: User { name: Some("ann".to_owned()), groups: Vec::new(), via: None, address: "::1".to_owned() },
            verb: "patch",
            object: Object { kind: "NetworkPolicy", namespace: Some("a".to_owned()), name: Some("b".to_owned()) },
            to: None,
            dry_run: false,
            by: "SubjectAccessReview",
            outcome: None,
            action: None,
            before: None,
            after: Some("7".to_owned()),
            reason: None,
        }
    }

    #[tokio::test]
    async fn lines_are_appended_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("audit.log");
        for stage in [Stage::Allowed, Stage::Done] {
            let audit = Audit::open(&AuditLog::File(path.clone())).expect("it opens");
            audit.write(entry(stage)).await.expect("it is written");
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let stages: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["stage"].clone())
            .collect();
        assert_eq!(stages, ["allowed", "done"]);
        let mode = std::fs::metadata(&path).expect("its metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_full_disk_is_told() {
        let audit = Audit::open(&AuditLog::File("/dev/full".into())).expect("it opens");
        let error = audit.write(entry(Stage::Allowed)).await.expect_err("nothing can be written there");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "{\"ha").expect("it is written");
        let file = OpenOptions::new().append(true).open(&path).expect("it opens");
        Target::File { file, torn: true }.write("{}").expect("it is written");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "{\"ha\n{}\n");
    }
}
