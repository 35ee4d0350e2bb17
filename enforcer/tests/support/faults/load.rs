//! Traffic whose every verdict is known: connections that must open, connections that must not, and connections that must
//! live. Bounded: it ends when it is dropped, and after a hundred seconds in any case.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::Space;

/// A retransmitted SYN comes after a second: whoever waits longer lost one to a wrong verdict.
const LOST: Duration = Duration::from_millis(950);
const LONGEST: Duration = Duration::from_secs(100);

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that opened and answered, as they must.
    pub opened: AtomicU64,
    /// Connections that must open and did not, or not with their first SYN.
    pub refused: AtomicU64,
    /// Connections that must not open, and did not.
    pub denied: AtomicU64,
    /// Connections that must not open, and did.
    pub leaked: AtomicU64,
    /// Datagrams that must not arrive, sent one a millisecond: so short a gap in a gate shows.
    pub sent: AtomicU64,
    /// Those that did arrive.
    pub arrived: AtomicU64,
    /// Round trips on connections that must live.
    pub echoes: AtomicU64,
    /// Connections that must live, and were cut.
    pub cut: AtomicU64,
    /// The longest round trip on these, in milliseconds.
    pub slowest: AtomicU64,
}

impl Tally {
    /// Whether every verdict was right.
    pub fn assert_right(&self) {
        println!("{self:?}");
        let count = |cell: &AtomicU64| cell.load(Relaxed);
        let wrong = [&self.refused, &self.leaked, &self.arrived, &self.cut].map(count);
        assert_eq!(wrong, [0; 4], "{self:?}");
        assert!(count(&self.sent) > 0, "{self:?}");
        assert!(count(&self.opened) > 0 && count(&self.denied) > 0 && count(&self.echoes) > 0, "{self:?}");
    }
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    rate: u32,
    began: Instant,
    pub tally: Arc<Tally>,
}

impl Load {
    /// `rate` connections a second from `allowed` to the addresses of `target` in turn, that must open; from `denied` as many as there is time
    /// for, and a datagram a millisecond to each, that must not.
    pub fn start(allowed: &Space, denied: &Space, target: (&Space, &[&str]), port: u16, rate: u32) -> Self {
        // Those of one thread wait for each other: the ones that must open have twice as many.
        const THREADS: u32 = 4;
        const KEPT: usize = 16;
        for space in [allowed, denied] {
            space.set("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000");
            // A port that a second ago had a connection to the same server has another one: in a minute they would run out.
            space.set("/proc/sys/net/ipv4/tcp_tw_reuse", "1");
        }
        let at = |text: &&str| SocketAddr::new(text.parse().expect("an address"), port);
        let targets: Vec<SocketAddr> = target.1.iter().map(at).collect();
        let (stop, tally): (Arc<AtomicBool>, Arc<Tally>) = Default::default();
        let mut load = Self { stop, threads: Vec::new(), rate, began: Instant::now(), tally };
        // A veth's queue may take a second to open.
        for (_, to) in (0..KEPT).zip(targets.iter().copied().cycle()) {
            let kept = allowed.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
            load.keep(kept.expect("it must open"));
        }
        load.began = Instant::now();
        for (_, to) in (0..2 * THREADS).zip(targets.iter().copied().cycle()) {
            let pause = Duration::from_secs(1) * 2 * THREADS / rate;
            load.thread(allowed, move |tally, next| {
                let began = Instant::now();
                let right = opens(to) && began.elapsed() < LOST;
                if right { &tally.opened } else { &tally.refused }.fetch_add(1, Relaxed);
                *next += pause;
            });
        }
        for (_, to) in (0..THREADS).zip(targets.iter().copied().cycle()) {
            load.thread(denied, move |tally, next| {
                let open = TcpStream::connect_timeout(&to, Duration::from_millis(100)).is_ok();
                if open { &tally.leaked } else { &tally.denied }.fetch_add(1, Relaxed);
                *next = Instant::now() + Duration::from_millis(5);
            });
        }
        for to in targets {
            let sink = SocketAddr::new(to.ip(), port + 1);
            let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = denied.enter(|| UdpSocket::bind((any, 0))).expect("a free port");
            load.thread(denied, move |tally, next| {
                let sent = socket.send_to(b"x", sink);
                tally.sent.fetch_add(u64::from(sent.is_ok()), Relaxed);
                *next += Duration::from_millis(1);
            });
            let socket = target.0.enter(|| UdpSocket::bind(sink)).expect("a free port");
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
            load.thread(target.0, move |tally, next| {
                tally.arrived.fetch_add(u64::from(socket.recv(&mut [0; 8]).is_ok()), Relaxed);
                *next = Instant::now();
            });
        }
        load
    }

    fn keep(&mut self, mut stream: TcpStream) {
        let (stop, tally) = (Arc::clone(&self.stop), Arc::clone(&self.tally));
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        self.threads.push(thread::spawn(move || {
            let began = Instant::now();
            while !stop.load(Relaxed) && began.elapsed() < LONGEST {
                let sent = Instant::now();
                if !crate::support::echo(&mut stream) {
                    tally.cut.fetch_add(1, Relaxed);
                    return;
                }
                tally.slowest.fetch_max(u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
                tally.echoes.fetch_add(1, Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        }));
    }

    fn thread(&mut self, space: &Space, work: impl Fn(&Tally, &mut Instant) + Send + Sync + 'static) {
        let (stop, tally) = (Arc::clone(&self.stop), Arc::clone(&self.tally));
        let netns = space.path();
        self.threads.push(thread::spawn(move || {
            let netns = signalbox_enforcer::netns::Netns::open(Some(&netns)).expect("it is open");
            let inside = netns.enter(|| {
                let began = Instant::now();
                let mut next = began;
                while !stop.load(Relaxed) && began.elapsed() < LONGEST {
                    work(&tally, &mut next);
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
            inside.expect("an open namespace can be entered");
        }));
    }

    /// Ends it, and asks whether every verdict was right, and whether there were as many connections as were wanted.
    pub fn finish(mut self) -> Arc<Tally> {
        let lasted = self.began.elapsed();
        self.end();
        let tried = self.tally.opened.load(Relaxed) + self.tally.refused.load(Relaxed);
        let rate = tried as f64 / lasted.as_secs_f64();
        println!("{rate:.0} connections a second for {lasted:?}");
        self.tally.assert_right();
        assert!(rate >= 0.9 * f64::from(self.rate), "{rate:.0} connections a second, not {}", self.rate);
        Arc::clone(&self.tally)
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no thread of a load panics");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Whether a connection opens, and answers.
fn opens(to: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(3)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(3))).is_ok() && crate::support::echo(&mut stream)
}

/// A server that sends back what it gets, for many connections: one thread, which waits in poll(2).
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn new(space: &Space, port: u16) -> Self {
        let any: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, port).into();
        let listener = space.enter(|| TcpListener::bind(any)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&listener, &ended));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut bytes = [0; 64];
    while !stop.load(Relaxed) {
        let mut files = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        files.extend(streams.iter().map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)));
        let _timed_out = poll(&mut files, PollTimeout::from(20_u16));
        let ready: Vec<bool> = files.iter().skip(1).map(|file| file.any().unwrap_or(true)).collect();
        drop(files);
        let mut ready = ready.into_iter();
        streams.retain_mut(|stream| {
            if ready.next() != Some(true) {
                return true;
            }
            match stream.read(&mut bytes) {
                Ok(0) => false,
                Ok(count) => stream.write_all(&bytes[..count]).is_ok(),
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            }
        });
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("a stream can be non-blocking");
            streams.push(stream);
        }
    }
}
