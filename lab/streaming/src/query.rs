//! The query strings of `…/exec` and `…/log`, as the Kubernetes API reference lists them.

use crate::runtime::{ExecRequest, LogRequest};

/// What a request for `…/exec` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecQuery {
    /// `container`; absent or empty means the first one.
    pub container: Option<String>,
    /// The command and whether it gets an input and a terminal.
    pub request: ExecRequest,
    /// The client takes standard output.
    pub stdout: bool,
    /// The client takes standard error. Always false with a terminal.
    pub stderr: bool,
}

/// What a request for `…/log` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// `container`; absent or empty means the first one.
    pub container: Option<String>,
    /// Which part.
    pub request: LogRequest,
    /// `limitBytes`: end after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// A query string that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No `command=`.
    #[error("you must specify at least one command for the container")]
    NoCommand,
    /// Nothing to connect.
    #[error("you must specify at least one of stdin, stdout, stderr")]
    NoStream,
    /// A parameter's value is not of its type.
    #[error("{parameter}: invalid value {value:?}: must be {expected}")]
    Invalid {
        /// The parameter's name.
        parameter: &'static str,
        /// What was sent.
        value: String,
        /// What the API reference asks for.
        expected: &'static str,
    },
}

impl ExecQuery {
    /// Reads the query string of `…/exec`. Parameters that nobody knows are ignored, as an API server does.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let mut container = None;
        let mut command = Vec::new();
        let (mut stdin, mut stdout, mut stderr, mut tty) = (false, false, false, false);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "command" => command.push(value.into_owned()),
                "container" => container = non_empty(&value),
                "stdin" => stdin = boolean("stdin", &value)?,
                "stdout" => stdout = boolean("stdout", &value)?,
                "stderr" => stderr = boolean("stderr", &value)?,
                "tty" => tty = boolean("tty", &value)?,
                _ => {}
            }
        }
        if command.first().is_none_or(String::is_empty) {
            return Err(QueryError::NoCommand);
        }
        // A terminal has one output only; the kubelet drops the request for the other as well.
        let stderr = stderr && !tty;
        if !(stdin || stdout || stderr) {
            return Err(QueryError::NoStream);
        }
        Ok(Self { container, request: ExecRequest { command, stdin, tty }, stdout, stderr })
    }
}

impl LogQuery {
    /// Reads the query string of `…/log`. Parameters that nobody knows are ignored, as an API server does.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let mut parsed = Self::default();
        let request = &mut parsed.request;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "container" => parsed.container = non_empty(&value),
                "follow" => request.follow = boolean("follow", &value)?,
                "timestamps" => request.timestamps = boolean("timestamps", &value)?,
                "previous" => request.previous = boolean("previous", &value)?,
                "tailLines" => request.tail_lines = Some(number("tailLines", &value, 0)?),
                "sinceSeconds" => request.since_seconds = Some(number("sinceSeconds", &value, 1)?),
                "limitBytes" => parsed.limit_bytes = Some(number("limitBytes", &value, 1)?),
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// A key without a value means true: the API machinery reads a query's booleans so.
fn boolean(parameter: &'static str, value: &str) -> Result<bool, QueryError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(QueryError::Invalid { parameter, value: value.to_owned(), expected: "true or false" }),
    }
}

fn number<N: TryFrom<u64>>(parameter: &'static str, value: &str, least: u64) -> Result<N, QueryError> {
    let expected = if least == 0 { "a number that is not negative" } else { "a number greater than 0" };
    value
        .parse::<u64>()
        .ok()
        .filter(|number| *number >= least)
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| QueryError::Invalid { parameter, value: value.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_queries() {
        let check = |query: &str, expected: Result<ExecQuery, QueryError>| {
            assert_eq!(ExecQuery::parse(query), expected, "{query}");
        };
        let sh = |stdin, tty, stdout, stderr| ExecQuery {
            container: None,
            request: ExecRequest { command: vec!["sh".into()], stdin, tty },
            stdout,
            stderr,
        };
        check("command=sh&stdout=true", Ok(sh(false, false, true, false)));
        check("command=sh&stdin=1&stdout=1&stderr=1&tty=false", Ok(sh(true, false, true, true)));
        check("command=sh&stdin=true&stdout=true&stderr=true&tty=true", Ok(sh(true, true, true, false)));
        check("command=sh&stdout&other=3", Ok(sh(false, false, true, false)));
        check(
            "container=web&command=sh&command=-c&command=echo+a%20%26%3D%C3%A9&stderr=true",
            Ok(ExecQuery {
                container: Some("web".into()),
                request: ExecRequest {
                    command: vec!["sh".into(), "-c".into(), "echo a &=é".into()],
                    stdin: false,
                    tty: false,
                },
                stdout: false,
                stderr: true,
            }),
        );
        check("stdout=true", Err(QueryError::NoCommand));
        check("command=&stdout=true", Err(QueryError::NoCommand));
        check("command=sh", Err(QueryError::NoStream));
        check("command=sh&tty=true&stderr=true", Err(QueryError::NoStream));
        check(
            "command=sh&stdout=yes",
            Err(QueryError::Invalid { parameter: "stdout", value: "yes".into(), expected: "true or false" }),
        );
    }

    #[test]
    fn log_queries() {
        let parsed =
            LogQuery::parse("follow=true&tailLines=0&timestamps=true&sinceSeconds=60&container=c&limitBytes=9");
        assert_eq!(
            parsed,
            Ok(LogQuery {
                container: Some("c".into()),
                request: LogRequest {
                    follow: true,
                    tail_lines: Some(0),
                    timestamps: true,
                    previous: false,
                    since_seconds: Some(60),
                },
                limit_bytes: Some(9),
            })
        );
        assert_eq!(LogQuery::parse(""), Ok(LogQuery::default()));
        for bad in ["tailLines=-1", "sinceSeconds=0", "limitBytes=0", "tailLines=x", "follow=2"] {
            assert!(LogQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
