//! What the API server's errors say, in one sentence.

use std::error::Error;
use std::process::Output;

use kube::client::AuthError;

/// The API server's own words where it answered; otherwise what went wrong on the way.
pub fn sentence(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error
        && !status.message.is_empty()
    {
        return status.message.clone();
    }
    let first: &(dyn Error + 'static) = error;
    let causes = || std::iter::successors(Some(first), |error| (*error).source());
    let plugin = causes().find_map(|cause| match cause.downcast_ref()? {
        AuthError::AuthExecRun { out, .. } => Some(ended(out)),
        // It quotes what it cannot read.
        AuthError::AuthExecParse(_) => Some("wrote what is no ExecCredential".to_owned()),
        _ => None,
    });
    if let Some(why) = plugin {
        return format!("the kubeconfig's credential plug-in {why}");
    }
    let mut text = error.to_string();
    for cause in causes().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// How a credential plug-in ended that has failed, with the last line that it complained with. What it wrote to its output may be a
/// token, and is left out.
pub fn ended(out: &Output) -> String {
    let text = String::from_utf8_lossy(&out.stderr);
    match text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => {
            let line: String = line.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
            format!("failed with {} ({line})", out.status)
        }
        None => format!("failed with {}", out.status),
    }
}

/// More characters of a line help nobody.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use kube::client::AuthError;

    use super::sentence;

    /// What a kubeconfig's credential plug-in had written was in the server's log, where it failed afterwards.
    #[test]
    fn what_a_credential_plug_in_wrote_is_not_told() {
        let (stdout, stderr) = (b"a-secret".to_vec(), b"first\nno such profile\n".to_vec());
        let out = Box::new(Output { status: ExitStatus::from_raw(256), stdout, stderr });
        let failed = || AuthError::AuthExecRun { cmd: "aws --token a-secret".to_owned(), out: out.clone() };
        for error in [kube::Error::Auth(failed()), kube::Error::Service(Box::new(failed()))] {
            let told = sentence(&error);
            assert!(told.contains("exit status: 1") && told.contains("no such profile"), "{told}");
            assert!(!told.contains("a-secret"), "{told}");
        }
        let start = kube::Error::Auth(AuthError::AuthExecStart(std::io::ErrorKind::NotFound.into()));
        assert!(sentence(&start).contains("unable to run auth exec: entity not found"), "{}", sentence(&start));
    }
}
