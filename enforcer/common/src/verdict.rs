// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Why a packet is denied, and the one table that says what each reason does.

/// What a kernel program found that keeps it from letting a packet pass as it is. Numbers stand in pinned maps: 7 is used up.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A policy isolates the pod, and no rule allows.
    Isolated = 1,
    /// The source address is not the sender's own.
    SpoofedSource = 2,
    /// The pod's policies did not fit into the kernel's maps.
    MapFull = 3,
    /// A header is cut short or contradicts itself, or is of a kind that nobody here can read.
    Unparsable = 4,
    /// A later fragment of a datagram whose first fragment was not let pass, or was not seen.
    Fragment = 5,
    /// More IPv6 extension headers than anyone sends in good faith.
    TooManyHeaders = 6,
    /// A decision of the pod's policies denies: a rule, or what stands in its place. The event has its index.
    Denied = 8,
    /// Strict mode: whose interface it is, is not known yet.
    NotYetKnown = 9,
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    Pass,
    /// It ends here.
    Drop,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Isolated,
        Self::SpoofedSource,
        Self::MapFull,
        Self::Unparsable,
        Self::Fragment,
        Self::TooManyHeaders,
        Self::Denied,
        Self::NotYetKnown,
    ];

    /// The table: what becomes of the packet, given whether a policy has a word on either side of it.
    #[inline(always)]
    pub const fn action(self, judged: bool) -> Action {
        match (self, judged) {
            // Reasons that only arise where a policy speaks, or where no policy is needed.
            (Self::Isolated | Self::MapFull | Self::SpoofedSource | Self::Denied | Self::NotYetKnown, _) => {
                Action::Drop
            }
            // What cannot be judged is denied where somebody asked for judgement, and nowhere else.
            (Self::Unparsable | Self::Fragment | Self::TooManyHeaders, true) => Action::Drop,
            (Self::Unparsable | Self::Fragment | Self::TooManyHeaders, false) => Action::Pass,
        }
    }

    /// From the byte in an event.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        let mut at = 0;
        while at < Self::ALL.len() {
            if Self::ALL[at] as u8 == byte {
                return Some(Self::ALL[at]);
            }
            at += 1;
        }
        None
    }

    /// The word in events, metrics and on the page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::SpoofedSource => "spoofed-source",
            Self::MapFull => "map-full",
            Self::Unparsable => "unparsable",
            Self::Fragment => "fragment",
            Self::TooManyHeaders => "too-many-headers",
            Self::Denied => "denied",
            Self::NotYetKnown => "not-yet-known",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        //                 reason                   judged         not judged
        let table = [
            (Reason::Isolated, Action::Drop, Action::Drop),
            (Reason::SpoofedSource, Action::Drop, Action::Drop),
            (Reason::MapFull, Action::Drop, Action::Drop),
            (Reason::Unparsable, Action::Drop, Action::Pass),
            (Reason::Fragment, Action::Drop, Action::Pass),
            (Reason::TooManyHeaders, Action::Drop, Action::Pass),
            (Reason::Denied, Action::Drop, Action::Drop),
            (Reason::NotYetKnown, Action::Drop, Action::Drop),
        ];
        assert_eq!(table.map(|row| row.0), Reason::ALL, "a row for each reason");
        for (reason, judged, open) in table {
            assert_eq!(reason.action(true), judged, "{reason:?}");
            assert_eq!(reason.action(false), open, "{reason:?}");
            assert_eq!(Reason::from_byte(reason as u8), Some(reason));
        }
        assert_eq!(Reason::from_byte(0), None);
    }
}
