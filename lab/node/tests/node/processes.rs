//! Commands and logs.

use std::time::Instant;

use signalbox_lab_node::testing::{start_pod, stop_pod};
use signalbox_lab_streaming::runtime::{ExitStatus, LogRequest, PodRuntime, RuntimeError, Target, TerminalSize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::support::{eventually, exec, pod, shell, start};
use super::{Run, config};

pub fn run(run: &mut Run) {
    run.test("exec: streams, exit status, terminal, end of a dropped session", commands);
    run.test("Ctrl-C where the lab was started with signals ignored", ignored);
    run.test("logs: follow, tail, timestamps", logs);
    run.test("four pods start together, quickly", quick);
}

async fn commands() {
    let node = signalbox_lab_node::create(config()).await.expect("a node");
    let started = start_pod(&node, "test", "web", &["TCP/9000"]).await.expect("a pod");

    assert_eq!(shell(&node, pod("web"), "exit 7").await.0, ExitStatus::Code(7));
    assert_eq!(shell(&node, pod("web"), "kill -9 $$").await.0, ExitStatus::Signal(9));
    let (exit, _) = exec(&node, pod("web"), &["no-such-program"]).await;
    assert!(matches!(&exit, ExitStatus::Failed(why) if why.contains("no-such-program")), "{exit:?}");
    let nobody = node.exec(
        pod("nobody"),
        signalbox_lab_streaming::runtime::ExecRequest { command: vec!["true".to_owned()], stdin: false, tty: false },
    );
    assert!(matches!(nobody.await.err(), Some(RuntimeError::NotRunning(..))));

    let mut cat = start(&node, pod("web"), &["cat"], false).await;
    let mut stdin = cat.stdin.take().expect("standard input");
    stdin.write_all(b"hello\n").await.expect("written");
    drop(stdin);
    let mut text = String::new();
    cat.stdout.read_to_string(&mut text).await.expect("readable");
    assert_eq!((text.as_str(), cat.exit.await), ("hello\n", ExitStatus::Code(0)));

    let mut terminal = start(&node, pod("web"), &["sh"], true).await;
    terminal.resize.send(TerminalSize { width: 97, height: 31 }).await.expect("taken");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let mut stdin = terminal.stdin.take().expect("standard input");
    stdin.write_all(b"stty size; tty; sh -c 'echo go-$((1 + 1)); exec sleep 60'\n").await.expect("written");
    let mut output = BufReader::new(&mut terminal.stdout);
    let mut seen = String::new();
    while !seen.contains("go-2") {
        assert_ne!(output.read_line(&mut seen).await.expect("readable"), 0, "{seen}");
    }
    assert!(seen.contains("31 97") && seen.contains("/dev/pts/"), "{seen}");
    // Ctrl-C reaches the foreground process: the terminal is the session's own.
    stdin.write_all(b"\x03").await.expect("written");
    let mut buffer = [0; 256];
    while !seen.split("^C").nth(1).is_some_and(|after| after.contains("$ ")) {
        let count = output.read(&mut buffer).await.expect("readable");
        assert_ne!(count, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    stdin.write_all(b"exit 3\n").await.expect("written");
    output.read_to_string(&mut seen).await.expect("readable until the session ends");
    assert_eq!(terminal.exit.await, ExitStatus::Code(3));

    let dropped = start(&node, pod("web"), &["sleep", "1234"], false).await;
    let sleeping = || {
        let tasks = format!("/proc/{0}/task/{0}/children", started.init());
        let children = std::fs::read_to_string(tasks).unwrap_or_default();
        children
            .split_whitespace()
            .any(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("1234"))
    };
    eventually("it runs", sleeping).await;
    drop(dropped);
    eventually("it has ended", || !sleeping()).await;

    let mut fastest = u128::MAX;
    for _ in 0..10 {
        let begin = Instant::now();
        let mut agent = start(&node, pod("web"), &["signalbox-probe", "agent"], false).await;
        let mut hello = String::new();
        BufReader::new(&mut agent.stdout).read_line(&mut hello).await.expect("readable");
        assert!(hello.contains("hello"), "{hello}");
        fastest = fastest.min(begin.elapsed().as_micros());
    }
    println!("     from exec to the agent's hello: {fastest} us");
    node.remove_everything().await;
}

/// As a script's `&` and `nohup` do: the same test, in a process that ignores them.
async fn ignored() {
    let own = std::env::current_exe().expect("a path");
    let mut again = tokio::process::Command::new("sh");
    again.args(["-c", "trap '' INT QUIT HUP; exec \"$0\" 'exec: streams'"]).arg(own).kill_on_drop(true);
    let output = again.output().await.expect("sh is there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed, 0 failed"), "{text}");
}

async fn logs() {
    let node = signalbox_lab_node::create(config()).await.expect("a node");
    let started = start_pod(&node, "test", "web", &["TCP/9000"]).await.expect("a pod");
    eventually("it listens", || started.listens_on(9000)).await;
    let request = LogRequest { timestamps: true, ..LogRequest::default() };
    let mut text = String::new();
    node.logs(pod("web"), request).await.expect("a log").read_to_string(&mut text).await.expect("readable");
    for line in text.lines() {
        assert!(line.split_once(' ').is_some_and(|(at, _)| at.ends_with('Z')), "{line}");
    }
    let previous = LogRequest { previous: true, ..LogRequest::default() };
    assert!(matches!(node.logs(pod("web"), previous).await.err(), Some(RuntimeError::NotFound(_))));
    let other = Target::Pod { namespace: "test".to_owned(), name: "web".to_owned(), container: Some("x".to_owned()) };
    assert!(matches!(node.logs(other, LogRequest::default()).await.err(), Some(RuntimeError::NotFound(_))));
    node.remove_everything().await;
}

async fn quick() {
    let begin = Instant::now();
    let node = signalbox_lab_node::create(config()).await.expect("a node");
    println!("     node: {} ms", begin.elapsed().as_millis());
    let begin = Instant::now();
    let four = ["a", "b", "c", "d"].map(|name| start_pod(&node, "test", name, &["TCP/9000"]));
    let mut pods = Vec::new();
    for started in futures::future::join_all(four).await {
        pods.push(started.expect("a pod"));
    }
    eventually("all listen", || pods.iter().all(|pod| pod.listens_on(9000))).await;
    println!("     four pods that listen: {} ms", begin.elapsed().as_millis());

    let begin = Instant::now();
    let first = pods.remove(0);
    let (init, address) = (first.init(), first.address());
    stop_pod(&node, "test", "a", first).await;
    println!("     a pod's removal: {} ms", begin.elapsed().as_millis());
    assert!(!std::path::Path::new(&format!("/proc/{init}")).exists());
    let next = start_pod(&node, "test", "e", &[]).await.expect("a pod");
    assert_ne!(next.address(), address, "not handed out again at once");
    node.remove_everything().await;
}
