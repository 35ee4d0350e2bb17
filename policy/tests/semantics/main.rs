//! One test or more for each point of the list of what others get wrong; the number in a test's name is the point's.
//! Points 17, 18, 19 and 22 concern the kernel alone.
//!
//! - `selectors`: 1, 4, 5, 25; `isolation`: 2, 3, 20, 24; `ports`: 6, 7, 8, 11; `addresses`: 9, 10, 12, 21; `nodes`: 13 to
//!   16; `tiers`: 23.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod isolation;
mod nodes;
mod ports;
mod selectors;
mod tiers;

use common::{namespace, pod_on, sound};
use signalbox_policy::{Cluster, PodRef};

/// Pods `x/web` and `y/api`, on their own nodes, and some policies.
fn two_pods(policies: &[String]) -> Cluster {
    let mut text = namespace("x", "team=x") + &namespace("y", "team=y");
    text += &pod_on("n1", "x/web", "app=web", "10.0.0.1", "http=TCP 8080");
    text += &pod_on("n2", "y/api", "app=api", "10.0.1.1", "http=TCP 9090");
    sound(&(text + &policies.concat()))
}

fn common_pod(namespace: &str, name: &str) -> PodRef {
    PodRef { namespace: namespace.to_owned(), name: name.to_owned() }
}

#[test]
fn each_point_that_the_engine_can_judge_has_a_test_named_after_it() {
    let sources = [
        include_str!("addresses.rs"),
        include_str!("isolation.rs"),
        include_str!("nodes.rs"),
        include_str!("ports.rs"),
        include_str!("selectors.rs"),
        include_str!("tiers.rs"),
    ];
    let has_test = |point: &u32| sources.iter().any(|source| source.contains(&format!("fn semantics_{point:02}_")));
    let missing: Vec<u32> = (1..=25).filter(|point| !has_test(point)).collect();
    assert_eq!(missing, [17, 18, 19, 22], "these concern the kernel alone");
}
