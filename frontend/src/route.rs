//! The address bar's hash: which view, which policy, which cell is explained.

use signalbox_api::cell::CellKey;
use signalbox_api::flow::Protocol;

/// A view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// The matrix.
    #[default]
    Matrix,
    /// The map.
    Map,
    /// The policies, one of them in the editor or none.
    Policies(Option<Edited>),
    /// The page in the browser alone.
    Alone(Desk),
}

/// A view of the page in the browser alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Desk {
    /// The simulated matrix.
    #[default]
    Matrix,
    /// The objects, one of them in the editor or none: by its number in the workspace.
    Policies(Option<u32>),
    /// What differs from the baseline.
    Changes,
    /// What a reviewer would say.
    Lint,
    /// Manifests in and out.
    Files,
    /// What a link brings.
    Link(String),
}

/// What is in the editor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Edited {
    /// One that is yet to be created.
    New,
    /// `namespace/name`.
    Existing(String, String),
}

/// Where the reader is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The view.
    pub view: View,
    /// The cell whose "why" is open.
    pub why: Option<CellKey>,
}

impl Route {
    /// A view without anything else open.
    pub const fn to(view: View) -> Self {
        Self { view, why: None }
    }

    /// Reads `#/matrix?why=…`. What cannot be read leads to the matrix.
    pub fn parse(hash: &str) -> Self {
        let hash = hash.trim_start_matches('#');
        let (path, query) = hash.split_once('?').unwrap_or((hash, ""));
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let view = match parts.as_slice() {
            ["map"] => View::Map,
            ["policies"] => View::Policies(None),
            ["policies", "new"] => View::Policies(Some(Edited::New)),
            ["policies", namespace, name] => {
                View::Policies(Some(Edited::Existing((*namespace).to_owned(), (*name).to_owned())))
            }
            ["simulate"] => View::Alone(Desk::Matrix),
            ["simulate", "policies"] => View::Alone(Desk::Policies(None)),
            ["simulate", "policies", item] => View::Alone(Desk::Policies(item.parse().ok())),
            ["simulate", "changes"] => View::Alone(Desk::Changes),
            ["simulate", "lint"] => View::Alone(Desk::Lint),
            ["simulate", "files"] => View::Alone(Desk::Files),
            ["simulate", "link", packed] => View::Alone(Desk::Link((*packed).to_owned())),
            _ => View::Matrix,
        };
        let why = query.split('&').find_map(|pair| pair.strip_prefix("why=")).and_then(parse_key);
        Self { view, why }
    }

    /// The hash, with its `#`.
    pub fn hash(&self) -> String {
        let path = match &self.view {
            View::Matrix => "#/matrix".to_owned(),
            View::Map => "#/map".to_owned(),
            View::Policies(None) => "#/policies".to_owned(),
            View::Policies(Some(Edited::New)) => "#/policies/new".to_owned(),
            View::Policies(Some(Edited::Existing(namespace, name))) => {
                format!("#/policies/{}/{}", encode(namespace), encode(name))
            }
            View::Alone(Desk::Matrix) => "#/simulate".to_owned(),
            View::Alone(Desk::Policies(None)) => "#/simulate/policies".to_owned(),
            View::Alone(Desk::Policies(Some(item))) => format!("#/simulate/policies/{item}"),
            View::Alone(Desk::Changes) => "#/simulate/changes".to_owned(),
            View::Alone(Desk::Lint) => "#/simulate/lint".to_owned(),
            View::Alone(Desk::Files) => "#/simulate/files".to_owned(),
            View::Alone(Desk::Link(packed)) => format!("#/simulate/link/{packed}"),
        };
        match &self.why {
            Some(key) => format!("{path}?why={}", print_key(key)),
            None => path,
        }
    }
}

/// A cell as one word, for the hash and for the page's own elements.
pub fn print_key(key: &CellKey) -> String {
    format!("{}~{}~{}~{}", encode(&key.from), encode(&key.to), key.port, key.protocol)
}

/// Reads [`print_key`]'s word.
pub fn parse_key(text: &str) -> Option<CellKey> {
    let parts: Vec<&str> = text.split('~').collect();
    let [from, to, port, protocol] = parts.as_slice() else { return None };
    let protocol = match *protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    Some(CellKey { from: decode(from), to: decode(to), port: port.parse().ok()?, protocol })
}

/// Percent-encodes what would end a part of the hash; slashes and colons stay readable.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b'/' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CellKey {
        CellKey { from: "pod:a/b-1".into(), to: "service:c d/é~&?%".into(), port: 53, protocol: Protocol::Udp }
    }

    #[test]
    fn every_route_reads_back() {
        let edited = Edited::Existing("backend".into(), "zero-trust".into());
        for view in [
            View::Matrix,
            View::Map,
            View::Policies(None),
            View::Policies(Some(Edited::New)),
            View::Policies(Some(edited)),
            View::Alone(Desk::Matrix),
            View::Alone(Desk::Policies(None)),
            View::Alone(Desk::Policies(Some(7))),
            View::Alone(Desk::Changes),
            View::Alone(Desk::Lint),
            View::Alone(Desk::Files),
            View::Alone(Desk::Link("aB-_9".into())),
        ] {
            for why in [None, Some(key())] {
                let route = Route { view: view.clone(), why };
                assert_eq!(Route::parse(&route.hash()), route, "{}", route.hash());
            }
        }
    }

    #[test]
    fn nonsense_leads_to_the_matrix() {
        for hash in
            ["", "#", "#/", "#/nowhere", "#/matrix?why=a~b~c~d", "#/matrix?why=a~b~1~ICMP", "#/policies/a/b/c", "#%"]
        {
            assert_eq!(Route::parse(hash), Route::default(), "{hash}");
        }
    }
}
