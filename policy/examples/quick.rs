#[path = "../benches/common/mod.rs"]
mod common;
use common::*;
use signalbox_policy::*;
use std::time::Instant;
fn main() {
    let size = Size::of(10_000, 1_000);
    let values = objects(size);
    let t = |name: &str, f: &mut dyn FnMut()| {
        let mut best = f64::MAX;
        for _ in 0..5 {
            let s = Instant::now();
            f();
            best = best.min(s.elapsed().as_secs_f64() * 1e3);
        }
        println!("{name}: {best:.2} ms");
    };
    t("from_objects", &mut || {
        std::hint::black_box(Cluster::from_objects(&values));
    });
    let ports = ports(10);
    let mut clusters: Vec<Cluster> = (0..5).map(|_| Cluster::from_objects(&values)).collect();
    t("classify+matrix", &mut || {
        let c = clusters.pop().unwrap();
        std::hint::black_box(c.matrix(&ports));
    });
    let c = Cluster::from_objects(&values);
    t("matrix", &mut || {
        std::hint::black_box(c.matrix(&ports));
    });
    let m = c.matrix(&ports);
    println!("classes {:?}", m.class_counts());
    t("counts all ports", &mut || {
        for p in 0..10 {
            std::hint::black_box(m.counts(p));
        }
    });
    for p in 0..10 {
        println!("{:?} {:?}", ports[p], m.counts(p));
    }
    t("one port cell by cell", &mut || {
        let mut n = 0;
        for (_, row) in m.rows(0) {
            n += row.count();
        }
        println!("{n}");
    });
    let mut pol = policy(size, 500);
    pol["spec"]["ingress"][0]["from"][0] = serde_json::json!({"podSelector": {"matchLabels": {"app": "app-3"}}});
    t("policy change: cluster", &mut || {
        std::hint::black_box(c.with_change([&pol], []));
    });
    let c2 = c.with_change([&pol], []);
    t("policy change: matrix", &mut || {
        std::hint::black_box(m.after(&c2));
    });
    let mut pd = pod(size, 5000);
    pd["metadata"]["labels"]["app"] = serde_json::json!("app-3");
    t("pod change: cluster", &mut || {
        std::hint::black_box(c.with_change([&pd], []));
    });
    let c3 = c.with_change([&pd], []);
    t("pod change: matrix", &mut || {
        std::hint::black_box(m.after(&c3));
    });
    let id = ObjectRef::of(&pd).unwrap();
    t("pod gone: cluster", &mut || {
        std::hint::black_box(c.with_change([], [&id]));
    });
    let c4 = c.with_change([], [&id]);
    t("pod gone: matrix", &mut || {
        std::hint::black_box(m.after(&c4));
    });
}
