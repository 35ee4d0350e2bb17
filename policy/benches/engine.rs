//! The engine's figures: `cargo xtask bench engine` runs them and writes docs/performance.md.

#![allow(missing_docs, reason = "criterion's macros make functions without any")]

mod clock;
mod common;
#[path = "clock/measure.rs"]
mod measure;

use std::hint::black_box;
use std::time::Duration;

use common::{Size, objects, pod, policy, ports};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use measure::ThreadTime;
use serde_json::json;
use signalbox_policy::analyze::Options;
use signalbox_policy::{Cluster, ObjectRef, Party, PodRef, Protocol};

/// The size of the goals.
const LARGE: Size = Size::of(10_000, 1_000);

/// Everything at the size of the goals.
fn goals(criterion: &mut Criterion<ThreadTime>) {
    let values = objects(LARGE);
    let cluster = Cluster::from_objects(&values);
    let asked = ports(10);
    let mut group = criterion.benchmark_group("goals");
    group.bench_function("objects to matrix", |bencher| {
        bencher.iter(|| black_box(Cluster::from_objects(&values).matrix(&asked)));
    });
    drop(values);
    group.bench_function("full matrix", |bencher| {
        bencher.iter_batched_ref(|| cluster.unclassified(), |cluster| cluster.matrix(&asked), BatchSize::PerIteration);
    });
    let matrix = cluster.matrix(&asked);
    group.bench_function("count of all cells", |bencher| {
        bencher.iter(|| (0..asked.len()).map(|port| matrix.counts(port).open).sum::<u64>());
    });
    let (mut edited, mut relabelled) = (policy(LARGE, 500), pod(LARGE, 5000));
    edited["spec"]["ingress"][0]["from"][0] = json!({"podSelector": {"matchLabels": {"app": "app-3"}}});
    relabelled["metadata"]["labels"]["app"] = json!("app-3");
    let gone = ObjectRef::of(&relabelled).expect("a pod has a name");
    group.bench_function("one policy changed", |bencher| {
        bencher.iter_with_large_drop(|| matrix.after(&cluster.with_change([&edited], [])));
    });
    group.bench_function("one pod changed", |bencher| {
        bencher.iter_with_large_drop(|| matrix.after(&cluster.with_change([&relabelled], [])));
    });
    group.bench_function("one pod gone", |bencher| {
        bencher.iter_with_large_drop(|| matrix.after(&cluster.with_change([], [&gone])));
    });
    let (from, to) = (party(LARGE, 7), party(LARGE, 5000));
    assert_eq!(cluster.verdict(&from, &to, Protocol::Tcp, 8080).allowed(), Some(false));
    group.bench_function("explain", |bencher| {
        bencher.iter(|| black_box(cluster.verdict(&from, &to, Protocol::Tcp, 8080)));
    });
    let small = Cluster::from_objects(&objects(Size::of(1_000, 1_000)));
    group.bench_function("analyze", |bencher| bencher.iter_with_large_drop(|| small.analyze(Options::default())));
    group.finish();
}

fn party(size: Size, number: usize) -> Party {
    let pod = pod(size, number);
    let text = |field: &str| pod["metadata"][field].as_str().expect("generated").to_owned();
    Party::Pod(PodRef { namespace: text("namespace"), name: text("name") })
}

/// How the full matrix grows.
fn growth(criterion: &mut Criterion<ThreadTime>) {
    let mut measure = |name: &str, cases: Vec<(usize, Size, usize)>| {
        let mut group = criterion.benchmark_group(format!("by {name}"));
        for (number, size, count) in cases {
            let cluster = Cluster::from_objects(&objects(size));
            let asked = ports(count);
            group.bench_with_input(BenchmarkId::from_parameter(number), &cluster, |bencher, cluster| {
                let fresh = || cluster.unclassified();
                bencher.iter_batched_ref(fresh, |cluster| cluster.matrix(&asked), BatchSize::PerIteration);
            });
        }
        group.finish();
    };
    let pods = [1_000, 2_000, 5_000, 10_000, 20_000];
    measure("pods", pods.map(|pods| (pods, Size::of(pods, 1_000), 10)).to_vec());
    let policies = [100, 300, 1_000, 3_000, 10_000];
    measure("policies", policies.map(|policies| (policies, Size::of(10_000, policies), 10)).to_vec());
    let labels = [1, 4, 16, 64];
    measure("labels", labels.map(|labels| (labels, Size { labels, ..LARGE }, 10)).to_vec());
    measure("ports", [1, 3, 10, 30, 100].map(|ports| (ports, LARGE, ports)).to_vec());
}

fn config() -> Criterion<ThreadTime> {
    Criterion::default()
        .with_measurement(ThreadTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group!(name = benches; config = config(); targets = goals, growth);
criterion_main!(benches);
