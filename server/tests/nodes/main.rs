//! Streams of enforcers, against the lab's Kubernetes API on loopback, which reviews tokens as each test tells it to.

mod certificates;
mod frames;
mod probes;
mod support;
mod who;
