//! Which ports somebody listens on, as the kernel lists them: no packet is needed to know that a pod is ready.

use std::collections::HashSet;
use std::io;

/// What a container promises to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Listener {
    Tcp(u16),
    Udp(u16),
}

/// Every listener in the network namespace of a process.
pub(crate) fn of_process(pid: i32) -> io::Result<HashSet<Listener>> {
    let mut found = HashSet::new();
    for (file, udp) in [("tcp", false), ("tcp6", false), ("udp", true), ("udp6", true)] {
        match std::fs::read_to_string(format!("/proc/{pid}/net/{file}")) {
            Ok(table) => found.extend(parse(&table, udp)),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Reads a table of proc_pid_net(5): the second column is the local address and port, the fourth the state.
fn parse(table: &str, udp: bool) -> impl Iterator<Item = Listener> + '_ {
    // TCP_LISTEN for TCP; TCP_CLOSE is an unconnected UDP socket.
    let wanted = if udp { "07" } else { "0A" };
    table.lines().skip(1).filter_map(move |line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let local = columns.next()?;
        let state = columns.nth(1)?;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (state == wanted).then_some(if udp { Listener::Udp(port) } else { Listener::Tcp(port) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listeners_count() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                   \x20  0: 00000000:2328 00000000:0000 0A 00000000:00000000 00:00000000\n\
                   \x20  1: 0100007F:0050 0100007F:9999 01 00000000:00000000 00:00000000\n";
        assert_eq!(parse(tcp, false).collect::<Vec<_>>(), [Listener::Tcp(9000)]);
        let udp = "  sl  local_address rem_address   st\n  5: 00000000:0035 00000000:0000 07 0:0\n";
        assert_eq!(parse(udp, true).collect::<Vec<_>>(), [Listener::Udp(53)]);
    }
}
