//! What must work, as people and tools write it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use signalbox_policy::analyze::AddressRange;
use signalbox_policy::suggest::{Need, Who};
use signalbox_policy::traffic::{PortSet, Traffic};
use signalbox_policy::{Cluster, Family, PodRef, Protocol};

use crate::error::Error;

/// Reads JSON, CSV or lines of text, whichever it is.
pub(super) fn read(name: &str, text: &str, cluster: &Cluster) -> Result<Vec<Need>, Error> {
    let reader = Reader { name, cluster };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let needs = match text.trim_start().chars().next() {
        Some('{' | '[') => reader.json(text)?,
        _ if is_csv(text) => reader.csv(text)?,
        _ => reader.lines(text)?,
    };
    // A pod always reaches itself by its own address.
    Ok(needs.into_iter().filter(|need| need.from != need.to).collect())
}

fn is_csv(text: &str) -> bool {
    let head = text.lines().next().unwrap_or_default();
    let columns: Vec<&str> = head.split(',').map(str::trim).collect();
    columns.contains(&"src") && columns.contains(&"dst")
}

struct Reader<'a> {
    name: &'a str,
    cluster: &'a Cluster,
}

impl Reader<'_> {
    fn wrong(&self, place: impl std::fmt::Display, what: impl std::fmt::Display) -> Error {
        Error::Usage(format!("{}: {place}: {what}", self.name))
    }

    fn json(&self, text: &str) -> Result<Vec<Need>, Error> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            self.wrong(
                format!("line {}, column {}", error.line(), error.column()),
                "is no JSON; check brackets and commas",
            )
        })?;
        let list = value.get("connections").unwrap_or(&value);
        let list = list
            .as_array()
            .ok_or_else(|| self.wrong("connections", "must be a list, as `analyze -o json` prints it"))?;
        list.iter().enumerate().map(|(index, item)| self.connection(index, item)).collect()
    }

    fn connection(&self, index: usize, item: &Value) -> Result<Need, Error> {
        let at = |field: &str| format!("connections[{index}].{field}");
        let text = |field: &str| {
            item.get(field).and_then(Value::as_str).ok_or_else(|| self.wrong(at(field), "must be a text"))
        };
        let family = match item.get("family") {
            None | Some(Value::Null) => None,
            Some(family) => Some(self.family(family.as_str().unwrap_or_default(), at("family"))?),
        };
        let (from, to) = (self.who(text("src")?, at("src"))?, self.who(text("dst")?, at("dst"))?);
        let ports = item.get("ports").and_then(Value::as_object);
        let ports = ports.ok_or_else(|| self.wrong(at("ports"), "must be an object of protocols and ranges"))?;
        let mut traffic = Traffic::default();
        for (protocol, ranges) in ports {
            let place = at(&format!("ports.{protocol}"));
            let ranges = ranges.as_array().ok_or_else(|| self.wrong(&place, "must be a list of ranges"))?;
            for range in ranges {
                let number =
                    |index: usize| range.get(index).and_then(Value::as_u64).and_then(|it| u16::try_from(it).ok());
                let (Some(first), Some(last)) = (number(0), number(1)) else {
                    return Err(self.wrong(&place, "a range is [first, last], from 1 to 65535"));
                };
                let protocol = self.protocol(protocol, &place)?;
                traffic = traffic.union(&Traffic::of(protocol, PortSet::range(first, last)));
            }
        }
        Ok(Need { from, to, traffic, family })
    }

    fn csv(&self, text: &str) -> Result<Vec<Need>, Error> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
        let head = reader.headers().map_err(|error| self.wrong("line 1", error))?.clone();
        let column = |names: &[&str]| head.iter().position(|it| names.contains(&it));
        let of_ports = [column(&["first_port", "port"]), column(&["last_port", "port"])];
        let [Some(first), Some(last)] = of_ports else {
            return Err(
                self.wrong("line 1", "needs the columns src, dst, protocol and port, or first_port and last_port")
            );
        };
        let (verdict, of_family) = (column(&["verdict"]), column(&["family"]));
        let mut needs = Vec::new();
        for (index, record) in reader.records().enumerate() {
            let place = format!("line {}", index + 2);
            let record = record.map_err(|error| self.wrong(&place, error))?;
            let cell = |column: Option<usize>| column.and_then(|at| record.get(at)).unwrap_or_default();
            // What was unknown when the list was made is nothing that must work.
            if !matches!(cell(verdict), "" | "open") {
                continue;
            }
            let family = match cell(of_family) {
                "" => None,
                text => Some(self.family(text, &place)?),
            };
            let who = |name: &str| self.who(cell(column(&[name])), &place);
            let ports = self.ports(&format!("{}-{}", cell(Some(first)), cell(Some(last))), &place)?;
            let protocol = self.protocol(cell(column(&["protocol"])), &place)?;
            let traffic = Traffic::of(protocol, ports);
            needs.push(Need { from: who("src")?, to: who("dst")?, traffic, family });
        }
        Ok(needs)
    }

    fn lines(&self, text: &str) -> Result<Vec<Need>, Error> {
        let lines =
            text.lines().enumerate().map(|(index, line)| (index + 1, line.split('#').next().unwrap_or_default()));
        lines.filter(|(_, line)| !line.trim().is_empty()).map(|(number, line)| self.line(number, line)).collect()
    }

    /// `shop/web -> shop/db:5432-5433/TCP IPv6`; the arrow, protocol and family may be left out.
    fn line(&self, number: usize, line: &str) -> Result<Need, Error> {
        let place = format!("line {number}");
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "->").collect();
        let (words, family) = match words.split_last() {
            Some((last, ends)) if family(last).is_some() => (ends, family(last)),
            Some(_) | None => (&words[..], None),
        };
        let [from, to] = *words else {
            return Err(self.wrong(place, "write one connection, as in: shop/web -> shop/db:5432/TCP"));
        };
        let (to, ports) = to.rsplit_once(':').ok_or_else(|| {
            self.wrong(&place, format!("{to:?} names no port; write one behind it, as in shop/db:5432"))
        })?;
        let (ports, protocol) = ports.split_once('/').unwrap_or((ports, "TCP"));
        let traffic = Traffic::of(self.protocol(protocol, &place)?, self.ports(ports, &place)?);
        let to = to.strip_prefix('[').and_then(|to| to.strip_suffix(']')).unwrap_or(to);
        Ok(Need { from: self.who(from, &place)?, to: self.who(to, &place)?, traffic, family })
    }

    fn protocol(&self, text: &str, place: impl std::fmt::Display) -> Result<Protocol, Error> {
        match text.to_uppercase().as_str() {
            "TCP" => Ok(Protocol::Tcp),
            "UDP" => Ok(Protocol::Udp),
            "SCTP" => Ok(Protocol::Sctp),
            _ => Err(self.wrong(place, format!("{text:?} is no protocol; write TCP, UDP or SCTP"))),
        }
    }

    fn family(&self, text: &str, place: impl std::fmt::Display) -> Result<Family, Error> {
        let wrong =
            || self.wrong(place, format!("{text:?} is no family; write IPv4 or IPv6, or leave it out for both"));
        family(text).ok_or_else(wrong)
    }

    /// `80` or `8080-8090`.
    fn ports(&self, text: &str, place: impl std::fmt::Display) -> Result<PortSet, Error> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port >= 1);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(PortSet::range(first, last)),
            (_, _) => Err(self.wrong(place, format!("{text:?} is no port or range of ports from 1 to 65535"))),
        }
    }

    fn who(&self, text: &str, place: impl std::fmt::Display) -> Result<Who, Error> {
        let range = |first: IpAddr, last: IpAddr| AddressRange::new(first, last);
        let address = text.parse::<IpAddr>().ok().and_then(|address| range(address, address));
        let block = || text.parse::<IpNet>().ok().and_then(|net| range(net.network(), net.broadcast()));
        let both = || {
            let (first, last) = text.split_once('-')?;
            range(first.parse().ok()?, last.parse().ok()?)
        };
        if let Some(range) = address.or_else(block).or_else(both) {
            return Ok(Who::Range(range));
        }
        let Some((namespace, name)) =
            text.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        else {
            let how = "write NAMESPACE/POD, NAMESPACE/WORKLOAD, an address, a CIDR or first-last";
            return Err(self.wrong(place, format!("{text:?} is no end of a connection; {how}")));
        };
        let pod = PodRef { namespace: namespace.to_owned(), name: name.to_owned() };
        if self.cluster.pods().any(|it| *it == pod) {
            return Ok(Who::Pod(pod));
        }
        Ok(Who::Workload { namespace: pod.namespace, name: pod.name })
    }
}

fn family(text: &str) -> Option<Family> {
    [Family::V4, Family::V6].into_iter().find(|family| family.as_str().eq_ignore_ascii_case(text))
}
