//! The frames of the stream between the server and an enforcer, or a host outside the cluster: a WebSocket whose text messages are
//! one JSON object each.
//!
//! Whoever dials says [`Report::Hello`] first and waits for [`Order::Welcome`] or [`Order::Refused`]; after a welcome both sides
//! write when they like. A frame of a type that the reader does not know is passed over and counted; a field that it does
//! not know is passed over. What neither covers is a new version: see [`Versions`].

use serde::{Deserialize, Serialize};

use crate::kernel::{EnforcerStatus, FlowEvent, VerdictCount};
use crate::probe::{Request, Response};

/// Where the server takes streams.
pub const PATH: &str = "/v1/stream";
/// For whom the token in the `Authorization` header has to be.
pub const AUDIENCE: &str = "signalbox";
/// No frame is longer, in bytes; whoever writes more is cut off.
pub const LONGEST_FRAME: usize = 1024 * 1024;
/// Events in one frame at most.
pub const MOST_EVENTS: usize = 512;

/// What this build speaks.
pub const SPOKEN: Versions = Versions { oldest: 1, newest: 1 };

/// The versions of the protocol that one side speaks, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

/// Why two sides have no version in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The other side's newest is older than our oldest.
    TooOld,
    /// The other side's oldest is newer than our newest.
    TooNew,
}

impl Versions {
    /// The version that both speak: the newest one.
    ///
    /// # Errors
    ///
    /// Where there is none: which side is behind.
    pub fn agree(self, theirs: Self) -> Result<u32, Mismatch> {
        if theirs.newest < self.oldest {
            Err(Mismatch::TooOld)
        } else if theirs.oldest > self.newest {
            Err(Mismatch::TooNew)
        } else {
            Ok(self.newest.min(theirs.newest))
        }
    }
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Role {
    /// The enforcer of a node.
    Enforcer {
        /// The node's name.
        node: String,
    },
    /// A host outside the cluster, from which probes start.
    Outside {
        /// `metadata.name` of its `ExternalHost`.
        host: String,
    },
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Enforcer { node } => write!(f, "the enforcer of node {node}"),
            Self::Outside { host } => write!(f, "the outside host {host}"),
        }
    }
}

/// From whoever dials to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Report {
    /// The first frame.
    Hello {
        /// Versions of the protocol.
        protocol: Versions,
        /// The dialler's own version.
        version: String,
        /// Who it is.
        role: Role,
        /// When its process began, Unix microseconds: tells one life of it from the next.
        #[serde(default)]
        started_us: u64,
    },
    /// The enforcer's condition, whenever it changes, and once after the welcome.
    Status(Box<EnforcerStatus>),
    /// Verdicts, in order.
    Flows {
        /// [`MOST_EVENTS`] at most.
        events: Vec<FlowEvent>,
        /// How many fell before the first of these since the dialler's process began. Where that is more than the frames before
        /// had, the difference was left out: the stream was away, or too slow.
        before: u64,
    },
    /// The answer to [`Order::Counts`].
    Counts {
        /// Of the question.
        id: u64,
        /// The kernel's counts, or why there are none.
        counts: Result<Vec<VerdictCount>, String>,
    },
    /// A newer token of the same identity: files of tokens are written anew before the old one ends.
    Token {
        /// Never logged.
        token: Secret,
    },
    /// The probe agent of a session wrote lines.
    Lines {
        /// Of [`Order::Probe`].
        session: u64,
        /// What.
        lines: Vec<Response>,
    },
    /// The probe agent of a session has ended, or could not be started.
    Ended {
        /// Of [`Order::Probe`].
        session: u64,
        /// A sentence for people.
        why: String,
    },
    /// It ends in order.
    Goodbye {
        /// What it enforced stays in force without it.
        enforces_on: bool,
    },
    /// A frame of another version's.
    #[serde(other)]
    Unknown,
}

/// From the server to whoever dialled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Order {
    /// The hello is accepted.
    Welcome {
        /// The version of the protocol that both speak.
        protocol: u32,
        /// The server's version.
        version: String,
    },
    /// The hello, or the stream from now on, is not accepted. The server closes it.
    Refused {
        /// For machines.
        reason: Refusal,
        /// One sentence for people.
        message: String,
    },
    /// Tell the kernel's counts of verdicts.
    Counts {
        /// Comes back with the answer.
        id: u64,
    },
    /// Start the probe agent. In a pod it tries connections, and answers all else with [`Response::Rejected`]; how many there may be, and for
    /// how long, the enforcer decides.
    Probe {
        /// Chosen by the server; unique on this stream.
        session: u64,
        /// In whose network namespace: `namespace/name` of a pod of this node; absent: on the host itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<String>,
    },
    /// Lines for the probe agent of a session.
    Lines {
        /// Of the session.
        session: u64,
        /// What.
        lines: Vec<Request>,
    },
    /// End the probe agent of a session.
    End {
        /// Of the session.
        session: u64,
    },
    /// A frame of another version's.
    #[serde(other)]
    Unknown,
}

/// Why a stream is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The dialler speaks only versions that the server no longer does: upgrade the dialler.
    TooOld,
    /// The dialler speaks only versions that the server does not yet: upgrade the server.
    TooNew,
    /// It may not speak for whom it names.
    NotYours,
    /// Its token is no longer good.
    Token,
    /// Another stream speaks for the same one now.
    Replaced,
    /// It does not keep to the protocol.
    Protocol,
    /// The server ends.
    Ending,
    /// Something that this build has no word for.
    #[serde(other)]
    Other,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken_or_it_is_said_who_is_behind() {
        let versions = |oldest, newest| Versions { oldest, newest };
        let ours = versions(2, 4);
        for (theirs, expected) in [
            (versions(1, 1), Err(Mismatch::TooOld)),
            (versions(1, 2), Ok(2)),
            (versions(3, 3), Ok(3)),
            (versions(1, 9), Ok(4)),
            (versions(5, 9), Err(Mismatch::TooNew)),
        ] {
            assert_eq!(ours.agree(theirs), expected, "{theirs:?}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_told_apart_from_what_is_broken() {
        let read = |text: &str| serde_json::from_str::<Report>(text);
        assert_eq!(read(r#"{"type":"weather","sunny":true}"#).expect("a frame"), Report::Unknown);
        let goodbye = read(r#"{"type":"goodbye","enforces_on":true,"until":5}"#).expect("a frame");
        assert_eq!(goodbye, Report::Goodbye { enforces_on: true });
        for broken in [r#"{"type":"goodbye"}"#, r#"{"sunny":true}"#, "[]", "", r#"{"type":"flows","events":7}"#] {
            assert!(read(broken).is_err(), "{broken}");
        }
        let refused = serde_json::from_str::<Order>(r#"{"type":"refused","reason":"full-moon","message":"m"}"#);
        assert_eq!(refused.expect("a frame"), Order::Refused { reason: Refusal::Other, message: "m".to_owned() });
    }

    #[test]
    fn frames_are_read_as_they_are_written() {
        let frames = [
            Report::Hello {
                protocol: SPOKEN,
                version: "1".to_owned(),
                role: Role::Enforcer { node: "n1".to_owned() },
                started_us: 5,
            },
            Report::Status(Box::default()),
            Report::Flows { events: Vec::new(), before: 7 },
            Report::Counts { id: 1, counts: Err("away".to_owned()) },
            Report::Token { token: Secret("t".to_owned()) },
            Report::Ended { session: 1, why: "w".to_owned() },
        ];
        for frame in frames {
            let text = serde_json::to_string(&frame).expect("JSON");
            assert_eq!(serde_json::from_str::<Report>(&text).expect("the same"), frame, "{text}");
        }
        assert_eq!(format!("{:?}", Report::Token { token: Secret("t".to_owned()) }), "Token { token: *** }");
    }
}
