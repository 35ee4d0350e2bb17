//! The full matrix as functions that a WASM host can call.

#[path = "../../benches/common/mod.rs"]
mod common;

use std::sync::OnceLock;

use signalbox_policy::Cluster;

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// Makes the cluster that is measured with. How many pods it has.
// SAFETY: no other function of this name is linked.
#[unsafe(no_mangle)]
pub extern "C" fn prepare(pods: u32, policies: u32) -> u32 {
    let size = common::Size::of(pods as usize, policies as usize);
    let cluster = CLUSTER.get_or_init(|| Cluster::from_objects(&common::objects(size)));
    u32::try_from(cluster.pods().count()).unwrap_or(u32::MAX)
}

/// The full matrix, classes included. How many classes it has.
// SAFETY: no other function of this name is linked.
#[unsafe(no_mangle)]
pub extern "C" fn matrix(ports: u32) -> u32 {
    let Some(cluster) = CLUSTER.get() else { return 0 };
    let matrix = cluster.unclassified().matrix(&common::ports(ports as usize));
    u32::try_from(matrix.class_counts().iter().sum::<usize>()).unwrap_or(u32::MAX)
}

/// How many cells of the first port are open.
// SAFETY: no other function of this name is linked.
#[unsafe(no_mangle)]
pub extern "C" fn open_cells() -> u32 {
    let Some(cluster) = CLUSTER.get() else { return 0 };
    u32::try_from(cluster.matrix(&common::ports(1)).counts(0).open).unwrap_or(u32::MAX)
}
