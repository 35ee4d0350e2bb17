//! A command that goes on while a test reads what it prints and types to it, with a terminal or without.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Far above what an answer takes on a busy machine.
const WITHIN: Duration = Duration::from_secs(20);

/// A running command. Dropped, it is ended.
pub struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    printed: String,
}

impl Talk {
    /// Starts a command.
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take();
        let mut stdout = child.stdout.take().expect("standard output is piped");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, output, printed: String::new() })
    }

    /// Starts a command, with its variables, at a terminal of its own, of 31 lines and 97 columns: its standard streams are that terminal.
    pub fn at_a_terminal(command: &Command) -> Result<Self> {
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
            .collect();
        let line = format!("stty rows 31 cols 97 && exec {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        Self::start(script)
    }

    /// Types this.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("nobody reads any more")?;
        input.write_all(text.as_bytes())?;
        Ok(input.flush()?)
    }

    /// Waits until something that is wanted was printed since the last time that something was; what was printed until then.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + WITHIN;
        while !wanted(&self.printed) {
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(more) => self.printed.push_str(&String::from_utf8_lossy(&more)),
                Err(why) => bail!("{what}: not printed ({why}), but:\n{}", self.printed),
            }
        }
        Ok(std::mem::take(&mut self.printed))
    }

    /// Whether it still runs.
    pub fn goes_on(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its own end; the exit status, `None` where a signal ended it.
    pub fn end(mut self) -> Result<Option<i32>> {
        let deadline = Instant::now() + WITHIN;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() > deadline {
                bail!("it did not end within {WITHIN:?}; it printed last:\n{}", self.printed);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself. A command at a terminal ends with the terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
