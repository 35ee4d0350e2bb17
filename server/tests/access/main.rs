//! Users of Kubernetes on a real listener, against the lab's Kubernetes API on loopback, which knows whom the tests tell it of.
//!
//! In the namespace `backend` everything has `hush` in its name: whoever may not see it is told no such word.

mod audit;
mod bench;
mod limits;
mod login;
mod probes;
mod proxy;
mod routes;
mod stream;
