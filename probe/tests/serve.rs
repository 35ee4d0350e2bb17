//! The server as a pod runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signalbox_api::probe::Greeting;

use common::{Namespace, PROBE, Running, root, serve};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn it_greets_and_waits_for_the_client_to_close() {
    let port = free_port();
    let _server = serve(Command::new(PROBE), "web-1", &[&format!("TCP/{port}"), &format!("UDP/{port}")]);
    for host in ["127.0.0.1", "[::1]"] {
        let mut stream = TcpStream::connect(format!("{host}:{port}")).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let greeting: Greeting = serde_json::from_str(&line).unwrap();
        assert_eq!(greeting, Greeting { name: "web-1".into(), peer: stream.local_addr().unwrap() });
        // Still open, whatever is said.
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "closed too early");
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);

        let socket = UdpSocket::bind(format!("{host}:0")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect(format!("{host}:{port}")).unwrap();
        socket.send(&[0; 1000]).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        let greeting: Greeting = serde_json::from_slice(&buffer[..length]).unwrap();
        assert_eq!(greeting.peer, socket.local_addr().unwrap());
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = format!("TCP/{}", taken.local_addr().unwrap().port());
    let output = Command::new(PROBE).args(["serve", "--name", "x", "--port", &port]).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("cannot listen on 0.0.0.0 {port}: Address already in use")), "{error}");
}

#[test]
fn it_ends_on_sigterm_and_reaps_as_pid_1() {
    if !root("it_ends_on_sigterm_and_reaps_as_pid_1") {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // Without --fork's child being in between: unshare waits for the probe, which is PID 1 of the namespace.
        let mut unshare = Running(
            Command::new("unshare")
                .args(["--pid", "--mount-proc", "--net", "--kill-child", "--fork", PROBE, "serve", "--name", "init"])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut errors = BufReader::new(unshare.0.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.ends_with("init serves no port\n"), "{line}");
        let children = format!("/proc/{0}/task/{0}/children", unshare.0.id());
        let init: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();

        // A grandchild whose parent ends at once becomes the probe's own.
        let orphan = Command::new("nsenter")
            .args(["--target", &init.to_string(), "--pid", "--mount", "--", "sh", "-c", "(sleep 0.2; exit 3) & exit 0"])
            .status()
            .unwrap();
        assert!(orphan.success());
        let children = format!("/proc/{init}/task/{init}/children");
        let deadline = Instant::now() + Duration::from_secs(10);
        std::thread::sleep(Duration::from_millis(300));
        while !std::fs::read_to_string(&children).unwrap().trim().is_empty() {
            assert!(Instant::now() < deadline, "zombies: {}", std::fs::read_to_string(&children).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }

        kill(Pid::from_raw(init), signal).unwrap();
        let begun = Instant::now();
        assert!(unshare.0.wait().unwrap().success(), "{signal}");
        // By the signal, and not by whoever loses patience: on a machine whose cores are taken it may wait for one.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_log_that_nobody_reads_blocks_nobody() {
    if !root("a_log_that_nobody_reads_blocks_nobody") {
        return;
    }
    let namespace = Namespace::new("");
    let mut command = namespace.command(PROBE);
    command.args(["serve", "--name", "x", "--port", "UDP/9"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Running(command.spawn().unwrap());
    BufReader::new(server.0.stderr.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    // The pipe of its log is full from the start.
    let log = server.0.stdout.as_ref().unwrap();
    nix::fcntl::fcntl(log, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let script = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(5);s.connect(('127.0.0.1',9))\n\
                  import time\nend=time.time()+9\nfor n in range(600):\n s.send(b'x');s.recv(500)\n n%20 or time.sleep(.25)";
    let client = namespace.command("python3").args(["-c", script]).output().unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
}

#[test]
fn the_tools_say_what_people_need() {
    if !root("the_tools_say_what_people_need") {
        return;
    }
    let namespace = Namespace::new(
        "ip link add void type veth peer name hole\nip link set hole up\nip addr add 192.0.2.1/24 dev void\n\
         ip link set void up\nip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev void",
    );
    let _server = serve(namespace.command(PROBE), "web-1", &["TCP/9000", "UDP/9000"]);
    for (arguments, well, words) in [
        (&["connect", "127.0.0.1:9000"][..], true, &["TCP 127.0.0.1:9000", "open after", "web-1 answered"][..]),
        (&["connect", "[::1]:9000", "--udp"], true, &["UDP ::1:9000", "open after", "web-1 answered"]),
        (&["connect", "127.0.0.1:1"], false, &["refused (ECONNREFUSED"]),
        (&["connect", "192.0.2.9:1", "--timeout", "100ms"], false, &["dropped (no answer within 10"]),
        (&["resolve", "localhost"], true, &["127.0.0.1"]),
        (&["resolve", "a..b"], false, &[]),
        (&["--version"], true, &[env!("CARGO_PKG_VERSION")]),
        (&["--help"], true, &["Examples:", "signalbox-probe connect"]),
    ] {
        let output = namespace.command(PROBE).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.success(), well, "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{arguments:?}: {word:?} is missing in {text}");
        }
    }
}
