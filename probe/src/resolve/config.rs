//! `/etc/resolv.conf` and `/etc/hosts`, as resolv.conf(5) and hosts(5) describe them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How to resolve names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In the order of the file; never empty.
    pub servers: Vec<SocketAddr>,
    /// Search domains, without the dot at the end.
    pub search: Vec<String>,
    /// A name with fewer dots is tried with the search domains first.
    pub ndots: usize,
    /// How long one server gets for one answer.
    pub timeout: Duration,
    /// How often all servers are asked.
    pub attempts: u32,
}

impl Config {
    /// Reads the text of a resolv.conf. What is not understood is left out, as the C library does; limits are its own.
    pub fn parse(text: &str) -> Self {
        let mut config =
            Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A scope (`fe80::1%eth0`) is not supported: such a server is left out.
                    if let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok())
                        && config.servers.len() < 3
                    {
                        config.servers.push(SocketAddr::new(address, 53));
                    }
                }
                Some("search" | "domain") => {
                    config.search = words.map(|word| word.trim_end_matches('.').to_owned()).collect();
                }
                Some("options") => words.for_each(|word| config.option(word)),
                _ => {}
            }
        }
        config.search.retain(|domain| !domain.is_empty());
        if config.servers.is_empty() {
            config.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
        }
        config
    }

    fn option(&mut self, word: &str) {
        let Some((key, Ok(value))) = word.split_once(':').map(|(key, value)| (key, value.parse::<u32>())) else {
            return;
        };
        match key {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names to ask for, in order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let as_it_is = format!("{name}.");
        let mut names: Vec<_> = self.search.iter().map(|domain| format!("{name}.{domain}.")).collect();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        if dots >= self.ndots {
            names.insert(0, as_it_is);
        } else {
            names.push(as_it_is);
        }
        names
    }
}

/// The addresses that a hosts file has for a name.
pub fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_file() {
        let config = Config::parse(
            "# by the kubelet\nsearch frontend.svc.cluster.local svc.cluster.local. cluster.local\n\
             nameserver 10.96.0.10\nnameserver fd00::a ; second\noptions ndots:5 timeout:1 attempts:3 edns0 rotate\n",
        );
        assert_eq!(
            config,
            Config {
                servers: vec!["10.96.0.10:53".parse().unwrap(), "[fd00::a]:53".parse().unwrap()],
                search: vec!["frontend.svc.cluster.local".into(), "svc.cluster.local".into(), "cluster.local".into()],
                ndots: 5,
                timeout: Duration::from_secs(1),
                attempts: 3,
            }
        );
    }

    #[test]
    fn nothing_usable() {
        let config = Config::parse("nameserver\nnameserver x\noptions ndots:y timeout:0 attempts:99 ndots\nsearch .\n");
        assert_eq!(config.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((config.ndots, config.timeout, config.attempts), (1, Duration::from_secs(1), 5));
        assert!(config.search.is_empty());
    }

    #[test]
    fn search_order() {
        let check = |ndots: usize, name: &str, expected: &[&str]| {
            let mut config = Config::parse("search a.x b.x");
            config.ndots = ndots;
            assert_eq!(config.candidates(name), expected, "{name} with ndots:{ndots}");
        };
        check(5, "web", &["web.a.x.", "web.b.x.", "web."]);
        check(5, "www.example.com", &["www.example.com.a.x.", "www.example.com.b.x.", "www.example.com."]);
        check(1, "www.example.com", &["www.example.com.", "www.example.com.a.x.", "www.example.com.b.x."]);
        check(5, "web.", &["web."]);
        check(0, "web", &["web.", "web.a.x.", "web.b.x."]);
    }

    #[test]
    fn hosts() {
        let text = "127.0.0.1 localhost # me\n::1 localhost ip6-localhost\n10.244.0.7 web-1 WEB\nbroken line\n";
        let check = |name: &str, expected: &[&str]| {
            let expected: Vec<IpAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(in_hosts(text, name), expected, "{name}");
        };
        check("localhost", &["127.0.0.1", "::1"]);
        check("web.", &["10.244.0.7"]);
        check("me", &[]);
        check("line", &[]);
    }
}
