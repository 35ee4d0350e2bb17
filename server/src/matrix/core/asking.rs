//! Agents that ask DNS servers, and kernels that drop what they ask.

use std::net::SocketAddr;

use signalbox_api::cell::CellKey;
use signalbox_api::flow::Protocol;
use signalbox_api::kernel::FlowEvent;
use signalbox_api::probe::Request;

use super::{Command, Core, Place, ProbeId};
use crate::matrix::questions::{Question, Source};

impl Core {
    /// An agent is about to ask a DNS server. A line about what it was not asked, or with an address that is not its own, is void.
    pub(super) fn asking(&mut self, at: &str, id: u64, local: SocketAddr, remote: SocketAddr) {
        let flight = self.flights.get(ProbeId(id)).filter(|flight| flight.cell.from == at && flight.ended.is_none());
        let resolve = self.resolves.get(&id).filter(|(from, ..)| from == at);
        let sent = resolve.map(|(_, _, until)| until.saturating_sub(self.patience()));
        let Some(since) = flight.map(|flight| flight.sent).or(sent) else { return };
        let Some(source) = self.source(at, local) else { return };
        let early = self.questions.take_early(&source, since);
        let question = Question { id, source, remote };
        self.questions.asking(question.clone());
        early.iter().for_each(|event| self.flights.is_of_others(event));
        if early.iter().any(|event| self.leads_to(&question, event.destination)) {
            self.question_dropped(&question);
        }
    }

    /// A probe leaves from a port of its agent's: it asks nobody any more. Over UDP, what was known of that port is about an earlier socket.
    pub(super) fn asks_no_more(&mut self, at: &str, id: u64, local: SocketAddr) {
        self.questions.forget(id);
        if self.flights.get(ProbeId(id)).is_none_or(|flight| flight.cell.protocol != Protocol::Udp) {
            return;
        }
        self.questions.close(at, local.port());
        if let Some(source) = self.source(at, local) {
            self.questions.take_early(&source, 0);
        }
    }

    /// Whether an event is the denial of an open question: then that is over.
    pub(super) fn is_of_question(&mut self, event: &FlowEvent) -> bool {
        let question = self.questions.of(event).filter(|question| self.leads_to(question, event.destination)).cloned();
        if let Some(question) = &question {
            self.question_dropped(question);
        }
        question.is_some()
    }

    fn source(&self, at: &str, local: SocketAddr) -> Option<Source> {
        let vantage = self.model.vantages.get(at)?;
        let pod = match &vantage.place {
            Place::Pod { namespace, name, .. } => Some(format!("{namespace}/{name}")),
            Place::Outside { .. } => None,
        };
        let is_its_own = vantage.addresses.iter().any(|own| own.to_canonical() == local.ip().to_canonical());
        is_its_own.then(|| Source { at: at.to_owned(), pod, local })
    }

    /// Whether a question's packets may go there: to the server's port, or to what is behind it where it is a Service that has another.
    fn leads_to(&self, question: &Question, destination: SocketAddr) -> bool {
        let server = question.remote.ip().to_canonical();
        let behind = || {
            let endpoint = self.model.endpoints.iter().find(|endpoint| endpoint.addresses.contains(&server))?;
            self.model.targets.get(&CellKey {
                from: question.source.at.clone(),
                to: endpoint.id.clone(),
                port: question.remote.port(),
                protocol: Protocol::Udp,
            })
        };
        destination.port() == question.remote.port()
            || behind().is_some_and(|target| {
                target.destinations.iter().any(|known| {
                    (known.ip().to_canonical(), known.port()) == (destination.ip().to_canonical(), destination.port())
                })
            })
    }

    /// A kernel dropped a question: its agent waits no longer.
    fn question_dropped(&mut self, question: &Question) {
        self.counts.kernel_events += 1;
        let Source { at, local, .. } = question.source.clone();
        self.questions.close(&at, local.port());
        self.commands.push(Command::Send { at, requests: vec![Request::QuestionDropped { id: question.id, local }] });
    }
}
