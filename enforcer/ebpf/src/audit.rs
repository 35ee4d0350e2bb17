// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What the policies in audit would say of a connection that the others allow. It decides nothing.

use signalbox_enforcer_common::{flow::Event, policy::PodState};

use crate::{
    conntrack::{Aside, Case},
    endpoint::Endpoint,
    maps::{AUDITS, Moment},
    report,
};

/// Judges a new connection once more where policies in audit select one of its ends, and reports what they would deny.
#[inline(always)]
pub fn consider(case: &mut Case, moment: Moment) {
    if case.source.has(PodState::AUDITED) || case.destination.has(PodState::AUDITED) {
        judge_audited(case, moment.generation);
    }
}

#[inline(never)]
fn judge_audited(case: &mut Case, generation: u32) {
    case.aside = Aside {
        source: (case.source.group, case.source.flags),
        destination: (case.destination.group, case.destination.flags),
        verdict: case.verdict,
    };
    take_audited(&mut case.source, generation);
    take_audited(&mut case.destination, generation);
    if !case.judge() {
        report::would_be_denied(case, generation, Event::POLICY_IN_AUDIT);
    }
    (case.source.group, case.source.flags) = case.aside.source;
    (case.destination.group, case.destination.flags) = case.aside.destination;
    case.verdict = case.aside.verdict;
}

/// The end as it would be with the policies in audit.
#[inline(always)]
fn take_audited(end: &mut Endpoint, generation: u32) {
    if !end.has(PodState::AUDITED) {
        return;
    }
    // SAFETY: user space replaces whole values, and words are read one by one.
    if let Some(value) = unsafe { AUDITS.get(&end.interface) } {
        end.group = value.group(generation);
        end.flags = value.flags(generation);
    }
}
