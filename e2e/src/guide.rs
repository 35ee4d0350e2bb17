//! A document whose commands can be run: what it shows is what is printed.
//!
//! In blocks marked `console` a line that begins with `$ ` is a command, and what follows until the next one is its output, errors
//! included. `…` stands for any text within a line, and alone in a line for any number of lines. A picture between blocks is one of the
//! page: its title names the cell whose panel is open, and its text is what that panel says.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell;

/// What a reader does next, and the line of the document that says so.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub what: What,
}

/// See [`Step`].
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// A command, and what it prints, line by line.
    Command {
        /// As it is typed.
        typed: String,
        /// What the document shows.
        printed: Vec<String>,
    },
    /// A picture of the page.
    Picture {
        /// Relative to the document.
        file: String,
        /// How the cell's label begins: `shop/web to shop/api port 80`.
        cell: String,
        /// What its panel says.
        says: String,
    },
}

/// Reads a document.
///
/// # Errors
/// Where a picture has no title, a block begins with no command, or one has no end.
pub fn read(document: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    let mut begun = false;
    for (at, text) in document.lines().enumerate() {
        let line = at + 1;
        if inside && text == "```" {
            inside = false;
        } else if inside && let Some(typed) = text.strip_prefix("$ ") {
            steps.push(Step { line, what: What::Command { typed: typed.to_owned(), printed: Vec::new() } });
            begun = true;
        } else if inside {
            match steps.last_mut() {
                Some(Step { what: What::Command { printed, .. }, .. }) if begun => printed.push(text.to_owned()),
                _ => bail!("line {line}: output without a command"),
            }
        } else if text == "```console" {
            (inside, begun) = (true, false);
        } else if text.starts_with("![") {
            steps.push(Step { line, what: picture(text).with_context(|| format!("line {line}: {text}"))? });
        }
    }
    ensure!(!inside, "the last block has no end");
    Ok(steps)
}

/// `![says](file "cell")`.
fn picture(text: &str) -> Option<What> {
    let (says, rest) = text.strip_prefix("![")?.split_once("](")?;
    let (file, title) = rest.strip_suffix("\")")?.split_once(" \"")?;
    Some(What::Picture { file: file.to_owned(), cell: title.to_owned(), says: says.to_owned() })
}

/// Runs a command as the document's reader does: in the workspace's root, with the built programs and the lab's kubeconfig.
///
/// # Errors
/// Where no shell can be started.
pub fn run(typed: &str, lab: &crate::lab::Lab) -> Result<String> {
    let programs = crate::lab::binary()?.parent().context("the binary lies in a folder")?.to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{typed} 2>&1")]).current_dir(shell::root());
    command.env("PATH", format!("{}:{path}", programs.display())).env("KUBECONFIG", &lab.kubeconfig);
    // kubectl's memory of an API server must not outlive this lab.
    command.env("HOME", lab.kubeconfig.parent().context("the kubeconfig lies in a folder")?);
    Ok(shell::run(&mut command, None)?.stdout)
}

/// Whether what was printed is what is shown.
pub fn agrees(shown: &[String], printed: &str) -> bool {
    let shown: Vec<&str> = shown.iter().map(|line| line.trim_end()).collect();
    let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
    lines_agree(&shown, &printed)
}

fn lines_agree(shown: &[&str], printed: &[&str]) -> bool {
    match shown {
        [] => printed.is_empty(),
        ["…", rest @ ..] => (0..=printed.len()).any(|skipped| lines_agree(rest, &printed[skipped..])),
        [line, rest @ ..] => {
            let Some((first, others)) = printed.split_first() else { return false };
            line_agrees(line, first) && lines_agree(rest, others)
        }
    }
}

fn line_agrees(shown: &str, printed: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else { return shown == printed };
    let Some(mut left) = printed.strip_prefix(start) else { return false };
    loop {
        if line_agrees(rest, left) {
            return true;
        }
        let Some(next) = left.chars().next() else { return false };
        left = &left[next.len_utf8()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_pictures_are_read_in_order() {
        let document = "# Title\n\n    indented\n\n```sh\nnot run\n```\n```console\n$ one\nout\n\nmore\n$ two\n```\n\n\
                        ![says this](a/b.png \"x to y port 1\")\n";
        let command = |line, typed: &str, printed: &[&str]| {
            let printed = printed.iter().map(|line| (*line).to_owned()).collect();
            Step { line, what: What::Command { typed: typed.to_owned(), printed } }
        };
        let [file, cell, says] = ["a/b.png", "x to y port 1", "says this"].map(str::to_owned);
        let picture = Step { line: 16, what: What::Picture { file, cell, says } };
        assert_eq!(
            read(document).expect("it can be read"),
            [command(9, "one", &["out", "", "more"]), command(13, "two", &[]), picture]
        );
        for wrong in ["```console\n$ a\n", "```console\nout\n```\n", "![no title](a.png)\n"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_ellipsis_stands_for_what_differs_from_run_to_run_and_for_nothing_else() {
        for (shown, printed, expected) in [
            ("a\nb", "a\nb\n", true),
            ("a", "a\nb\n", false),
            ("a\nb", "a\n", false),
            ("", "", true),
            ("web-… is open", "web-7f-x is open\n", true),
            ("web-… is open", "web-7f-x is shut\n", false),
            ("took … us, … ms", "took 12 us, 3 ms\n", true),
            ("…\nlast", "one\ntwo\nlast\n", true),
            ("…\nlast", "last\n", true),
            ("first\n…", "first\n", true),
            ("first\n…\nlast", "first\nother\n", false),
            ("a   ", "a\n", true),
        ] {
            let lines: Vec<String> = shown.lines().map(str::to_owned).collect();
            assert_eq!(agrees(&lines, printed), expected, "{shown:?} and {printed:?}");
        }
    }
}
