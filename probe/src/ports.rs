//! Source ports, each of which rests after its use.
//!
//! A kernel's event names a connection by nothing but its protocol, addresses and ports. Of denials of one and the same flow a kernel
//! tells only now and then, and whoever reads its events keeps connections that have ended for a while, for what comes late. A new
//! connection from the port of one that has just ended, to the same place, would be taken for that one, or never be told of.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signalbox_api::flow::Protocol;
use signalbox_api::probe::PORT_RESTS_MS;

/// How often the kernel is asked for a port. Where so many were resting, most are, and the last one is taken as it is.
const TRIES: usize = 16;

/// The ports of one network namespace, as far as this process has used them.
#[derive(Debug, Default)]
pub struct Ports {
    resting: Mutex<Resting>,
}

/// A port in use. Dropped, it rests: keep it as long as its socket.
#[derive(Debug)]
pub struct Port<'a> {
    ports: &'a Ports,
    key: Key,
}

type Key = (Protocol, u16);

#[derive(Debug, Default)]
struct Resting {
    until: HashMap<Key, Instant>,
    /// The same in order of time. One that was used nevertheless is in here twice, and rests until the later moment.
    ends: VecDeque<(Instant, Key)>,
}

impl Ports {
    /// A socket that `bind` has bound to a port of the kernel's choice, one that does not rest if there is any to be had.
    ///
    /// # Errors
    ///
    /// Those of `bind`, and of `local`, which tells the socket's own address.
    pub fn bind<S>(
        &self,
        protocol: Protocol,
        bind: impl Fn() -> io::Result<S>,
        local: impl Fn(&S) -> io::Result<SocketAddr>,
    ) -> io::Result<(Port<'_>, S)> {
        let mut tries = 0;
        loop {
            let socket = bind()?;
            let key = (protocol, local(&socket)?.port());
            tries += 1;
            if tries == TRIES || !self.lock().has(key, Instant::now()) {
                return Ok((Port { ports: self, key }, socket));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Port<'_> {
    fn drop(&mut self) {
        self.ports.lock().add(self.key, Instant::now());
    }
}

impl Resting {
    fn add(&mut self, key: Key, now: Instant) {
        let until = now + Duration::from_millis(PORT_RESTS_MS);
        self.until.insert(key, until);
        self.ends.push_back((until, key));
    }

    fn has(&mut self, key: Key, now: Instant) -> bool {
        while let Some((end, rested)) = self.ends.front().copied().filter(|(end, _)| *end <= now) {
            self.ends.pop_front();
            if self.until.get(&rested) == Some(&end) {
                self.until.remove(&rested);
            }
        }
        self.until.contains_key(&key)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Binds to these, one after the other.
    fn next(ports: &RefCell<VecDeque<u16>>) -> io::Result<SocketAddr> {
        let port = ports.borrow_mut().pop_front().ok_or_else(|| io::Error::other("asked too often"))?;
        Ok(SocketAddr::from(([10, 244, 0, 5], port)))
    }

    #[test]
    fn a_port_rests_after_its_use() {
        let ports = Ports::default();
        let take = |protocol, offered: &[u16]| {
            let offered = RefCell::new(offered.iter().copied().collect());
            let (port, socket) =
                ports.bind(protocol, || next(&offered), |local| Ok(*local)).expect("one of them is taken");
            assert!(offered.borrow().is_empty(), "the last one is taken");
            (port, socket.port())
        };
        let (first, number) = take(Protocol::Tcp, &[40_000]);
        assert_eq!(number, 40_000);
        drop(first);
        assert_eq!(take(Protocol::Tcp, &[40_000, 40_000, 40_001]).1, 40_001);
        assert_eq!(take(Protocol::Udp, &[40_000]).1, 40_000, "another protocol's ports are others");
        assert_eq!(take(Protocol::Tcp, &[40_001; TRIES]).1, 40_001, "better one that rests than none");
    }

    #[test]
    fn a_port_is_rested_after_a_while() {
        let (tcp, rest) = ((Protocol::Tcp, 40_000), Duration::from_millis(PORT_RESTS_MS));
        let begin = Instant::now();
        let mut resting = Resting::default();
        resting.add(tcp, begin);
        assert!(resting.has(tcp, begin + rest - Duration::from_millis(1)));
        // Used nevertheless, it rests anew.
        resting.add(tcp, begin + rest / 2);
        assert!(resting.has(tcp, begin + rest));
        assert!(!resting.has(tcp, begin + rest + rest / 2));
        assert!(resting.until.is_empty() && resting.ends.is_empty(), "nothing is kept for good");
    }
}
