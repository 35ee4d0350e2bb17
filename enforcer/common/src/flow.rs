// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The tables that the kernel writes, and its events.

use crate::Address;

/// Key of the map `FLOWS`: one key for both directions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    low: Address,
    high: Address,
    low_port: u16,
    high_port: u16,
    protocol: u32,
}

impl FlowKey {
    /// The key, and whether the source is its low end.
    #[inline(always)]
    pub const fn new(
        source: &Address,
        destination: &Address,
        source_port: u16,
        destination_port: u16,
        protocol: u8,
    ) -> (Self, bool) {
        let source_is_low = Self::source_is_low(source, destination, source_port, destination_port);
        let key = if source_is_low {
            Self::ordered(*source, *destination, source_port, destination_port, protocol)
        } else {
            Self::ordered(*destination, *source, destination_port, source_port, protocol)
        };
        (key, source_is_low)
    }

    /// Whether the source is the low end of the key.
    #[inline(always)]
    pub const fn source_is_low(
        source: &Address,
        destination: &Address,
        source_port: u16,
        destination_port: u16,
    ) -> bool {
        source.below(destination) || source.same(destination) && source_port <= destination_port
    }

    /// The key of ends whose order is known.
    #[inline(always)]
    pub const fn ordered(low: Address, high: Address, low_port: u16, high_port: u16, protocol: u8) -> Self {
        Self { low, high, low_port, high_port, protocol: protocol as u32 }
    }

    /// Address and port of its low end.
    pub const fn low(&self) -> (Address, u16) {
        (self.low, self.low_port)
    }

    /// Address and port of its high end.
    pub const fn high(&self) -> (Address, u16) {
        (self.high, self.high_port)
    }

    /// The IP protocol.
    pub const fn protocol(&self) -> u8 {
        self.protocol as u8
    }
}

/// Value of the map `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    generation: u32,
    last_seen: u32,
    source_interface: u32,
    destination_interface: u32,
    egress_decision: u32,
    ingress_decision: u32,
    flags: u32,
}

impl Flow {
    /// The one that opened the connection is the low end of the key.
    pub const SOURCE_IS_LOW: u32 = 1;
    /// The node itself opened it.
    pub const FROM_NODE: u32 = 1 << 1;
    /// Cut: it was allowed once, and is not any more.
    pub const CUT: u32 = 1 << 2;
    /// It would be denied, and is let pass since the node is in audit.
    pub const AUDITED: u32 = 1 << 3;
    /// Nobody saw it being opened: who did is a guess, by its first packet that was seen.
    pub const GUESSED: u32 = 1 << 4;

    /// A flow that is allowed as of a generation. Interfaces are those of the local pods at its ends, or 0.
    #[inline(always)]
    pub const fn new(generation: u32, now: u32, interfaces: (u32, u32), decisions: (u32, u32), flags: u32) -> Self {
        Self {
            generation,
            last_seen: now,
            source_interface: interfaces.0,
            destination_interface: interfaces.1,
            egress_decision: decisions.0,
            ingress_decision: decisions.1,
            flags,
        }
    }

    /// The generation that judged it.
    #[inline(always)]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// By the coarse clock, in seconds.
    #[inline(always)]
    pub const fn last_seen(&self) -> u32 {
        self.last_seen
    }

    /// Remembers a packet; writes only where the coarse clock has moved.
    #[inline(always)]
    pub const fn touch(&mut self, now: u32) {
        if self.last_seen != now {
            self.last_seen = now;
        }
    }

    /// Whether a flag is set.
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether it was silent for so long that nothing may be concluded from it any more.
    #[inline(always)]
    pub const fn is_stale(&self, now: u32, protocol: u8) -> bool {
        let most = match protocol {
            6 => 86_400,
            17 => 180,
            _ => 60,
        };
        // A packet on another CPU may have read an earlier second.
        let idle = now.wrapping_sub(self.last_seen);
        idle > most && idle < u32::MAX / 2
    }

    /// The interface of the local pod that opened it, or 0.
    #[inline(always)]
    pub const fn source_interface(&self) -> u32 {
        self.source_interface
    }

    /// The interface of the local pod that it was opened to, or 0.
    #[inline(always)]
    pub const fn destination_interface(&self) -> u32 {
        self.destination_interface
    }

    /// What the source's group decided, or [`crate::policy::NO_DECISION`].
    pub const fn egress_decision(&self) -> u32 {
        self.egress_decision
    }

    /// What the destination's group decided, or [`crate::policy::NO_DECISION`].
    pub const fn ingress_decision(&self) -> u32 {
        self.ingress_decision
    }

    /// Judged again, and still allowed.
    #[inline(always)]
    pub const fn keep(&mut self, generation: u32, interfaces: (u32, u32), decisions: (u32, u32)) {
        self.source_interface = interfaces.0;
        self.destination_interface = interfaces.1;
        self.egress_decision = decisions.0;
        self.ingress_decision = decisions.1;
        self.flags &= !(Self::CUT | Self::AUDITED);
        self.generation = generation;
    }

    /// It would be denied, and is let pass all the same.
    #[inline(always)]
    pub const fn mark_audited(&mut self) {
        self.flags |= Self::AUDITED;
    }

    /// Judged again, and not allowed any more.
    #[inline(always)]
    pub const fn cut(&mut self, generation: u32) {
        self.flags |= Self::CUT;
        self.generation = generation;
    }
}

/// Key of the map `FRAGMENTS`: a datagram whose first fragment was let pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    source: Address,
    destination: Address,
    identification: u32,
    protocol: u32,
    #[cfg(feature = "other-layout")]
    more: [u32; 2],
}

impl FragmentKey {
    /// A datagram.
    #[inline(always)]
    pub const fn new(source: &Address, destination: &Address, identification: u32, protocol: u8) -> Self {
        Self {
            source: *source,
            destination: *destination,
            identification,
            protocol: protocol as u32,
            #[cfg(feature = "other-layout")]
            more: [1, 2],
        }
    }
}

/// Key of the map `LIMITS`: a flow in one direction, whose denials are reported now and then only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitKey {
    source: Address,
    destination: Address,
    source_port: u16,
    destination_port: u16,
    protocol: u32,
}

impl LimitKey {
    /// A flow in one direction.
    #[inline(always)]
    pub const fn new(
        source: &Address,
        destination: &Address,
        source_port: u16,
        destination_port: u16,
        protocol: u8,
    ) -> Self {
        Self { source: *source, destination: *destination, source_port, destination_port, protocol: protocol as u32 }
    }
}

/// Value of the map `LIMITS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    reported_ns: u64,
    generation: u32,
    suppressed: u32,
    #[cfg(feature = "other-layout")]
    more: u64,
}

impl Limit {
    /// A flow's denials are reported at most once in this time, and once per generation, in nanoseconds.
    pub const PAUSE_NS: u64 = 500_000_000;

    /// A denial that was reported.
    #[inline(always)]
    pub const fn new(now_ns: u64, generation: u32) -> Self {
        Self {
            reported_ns: now_ns,
            generation,
            suppressed: 0,
            #[cfg(feature = "other-layout")]
            more: 0,
        }
    }

    /// Whether another denial is due, and how many were left out since the last one.
    #[inline(always)]
    pub const fn due(&self, now_ns: u64, generation: u32) -> Option<u32> {
        if self.generation == generation && now_ns.wrapping_sub(self.reported_ns) < Self::PAUSE_NS {
            return None;
        }
        Some(self.suppressed)
    }

    /// Counts one that is left out.
    #[inline(always)]
    pub const fn suppress(&mut self) {
        self.suppressed = self.suppressed.saturating_add(1);
    }
}

/// Key of the map `COUNTS`: who, to whom, on which port. A local pod stands there by interface and by its own address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountKey {
    source: Address,
    destination: Address,
    source_interface: u32,
    destination_interface: u32,
    port: u16,
    protocol: u16,
}

impl CountKey {
    /// A pair.
    #[inline(always)]
    pub const fn new(
        source: Address,
        destination: Address,
        source_interface: u32,
        destination_interface: u32,
        protocol: u8,
        port: u16,
    ) -> Self {
        Self { source, destination, source_interface, destination_interface, port, protocol: protocol as u16 }
    }

    /// Who sent: the interface of a local pod, or 0, and the address.
    pub const fn source(&self) -> (u32, Address) {
        (self.source_interface, self.source)
    }

    /// For whom: the interface of a local pod, or 0, and the address.
    pub const fn destination(&self) -> (u32, Address) {
        (self.destination_interface, self.destination)
    }

    /// The destination's port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The IP protocol.
    pub const fn protocol(&self) -> u8 {
        self.protocol as u8
    }
}

/// Value of the map `COUNTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Flows that were allowed.
    pub allowed: u64,
    /// Packets that were denied.
    pub denied: u64,
}

/// What the ring buffer `EVENTS` carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who sent.
    pub source: Address,
    /// For whom.
    pub destination: Address,
    /// Its port, or 0.
    pub source_port: u16,
    /// Its port, or 0.
    pub destination_port: u16,
    /// The IP protocol.
    pub protocol: u8,
    /// 0: allowed. Else a [`crate::verdict::Reason`].
    pub reason: u8,
    /// 0, or the [`crate::policy::Side`] that denied.
    pub side: u8,
    /// Whether the flow had been allowed before.
    pub cut: u8,
    /// The generation that judged.
    pub generation: u32,
    /// The interface of the local pod that sent, or 0.
    pub source_interface: u32,
    /// The interface of the local pod that it was for, or 0.
    pub destination_interface: u32,
    /// The group that judged the egress side.
    pub egress_group: u32,
    /// Its decision, or [`crate::policy::NO_DECISION`].
    pub egress_decision: u32,
    /// The group that judged the ingress side.
    pub ingress_group: u32,
    /// Its decision, or [`crate::policy::NO_DECISION`].
    pub ingress_decision: u32,
    /// Denials of this flow that were left out since the last event.
    pub suppressed: u32,
    /// 0: what is told was done. [`Event::NODE_IN_AUDIT`] or [`Event::POLICY_IN_AUDIT`]: it was let pass.
    pub audit: u32,
    /// Always 0: keeps the size a multiple of eight.
    pub reserved: u32,
}

impl Event {
    /// New flows wake the reader at most once in this time, in nanoseconds. After each waking it looks again when this time is over: so
    /// none waits for longer than both.
    pub const PAUSE_NS: u64 = 8_000_000;
    /// The same of denials, and of all events where the ring buffer fills up.
    pub const URGENT_PAUSE_NS: u64 = 250_000;
    /// Bytes of events that nobody has read yet, from which on the ring buffer fills up: a quarter of it.
    pub const MANY_BYTES: u64 = 1 << 18;

    /// In [`Event::audit`]: it was let pass, since the node is in audit.
    pub const NODE_IN_AUDIT: u32 = 1;
    /// In [`Event::audit`]: it was let pass, since the policies that deny it are in audit. Its groups are those with these policies.
    pub const POLICY_IN_AUDIT: u32 = 2;
}

/// Key of the map `VERDICTS`, whose value is a count for each CPU: what decided.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerdictKey {
    group: u32,
    decision: u32,
    side: u8,
    reason: u8,
    outcome: u8,
    reserved: u8,
}

/// What became of what was decided.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// A new flow was allowed. Each side that has a rule for it is counted.
    Allowed = 0,
    /// A packet was denied.
    Denied = 1,
    /// A packet was let pass that would be denied.
    WouldBeDenied = 2,
}

impl Outcome {
    /// From the byte in a key.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Allowed),
            1 => Some(Self::Denied),
            2 => Some(Self::WouldBeDenied),
            _ => None,
        }
    }
}

impl VerdictKey {
    /// What a side of a group decided; without a side, what the programs refuse by themselves.
    #[inline(always)]
    pub const fn new(group: u32, side: u8, decision: u32, reason: u8, outcome: Outcome) -> Self {
        Self { group, decision, side, reason, outcome: outcome as u8, reserved: 0 }
    }

    /// The group.
    pub const fn group(&self) -> u32 {
        self.group
    }

    /// The number of the [`crate::policy::Side`], or 0.
    pub const fn side(&self) -> u8 {
        self.side
    }

    /// The index of its decision, or [`crate::policy::NO_DECISION`].
    pub const fn decision(&self) -> u32 {
        self.decision
    }

    /// 0, or the number of the [`crate::verdict::Reason`].
    pub const fn reason(&self) -> u8 {
        self.reason
    }

    /// What became of it.
    pub const fn outcome(&self) -> Option<Outcome> {
        Outcome::from_byte(self.outcome)
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().expect("a test's address"))
    }

    #[test]
    fn both_directions_share_a_key() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2"), ("10.0.0.1", "10.0.0.1")] {
            let (a, b) = (address(a), address(b));
            let (there, there_low) = FlowKey::new(&a, &b, 40_000, 80, 6);
            let (back, back_low) = FlowKey::new(&b, &a, 80, 40_000, 6);
            assert_eq!(there, back);
            assert_ne!(there_low, back_low);
            assert_ne!(there, FlowKey::new(&a, &b, 40_000, 80, 17).0);
        }
    }

    #[test]
    fn a_limit_lets_one_pass_now_and_then() {
        let mut limit = Limit::new(1_000, 4);
        assert_eq!(limit.due(1_001, 4), None);
        limit.suppress();
        limit.suppress();
        assert_eq!(limit.due(1_000 + Limit::PAUSE_NS, 4), Some(2));
        assert_eq!(limit.due(1_001, 5), Some(2), "another generation may give another reason");
    }
}
