//! Measures the datapath and writes its part of docs/performance.md.

mod kernel;
mod measure;
mod scenarios;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in the workspace")?.to_owned();
    let object = root.join("target/artifacts/enforcer-bench.bpf.o");
    let node = scenarios::Node::new();
    let show = |rows: Vec<scenarios::Row>| {
        for row in rows {
            let ratio = row.ratio();
            println!(
                "{:70} {:6.1} ns (least {:6.1}) empty {:5.1} (least {:5.1}): {:5.2} [{:5.2} {:5.2}] least/least {:5.2}",
                row.name,
                row.took.median(),
                row.took.least(),
                row.empty.median(),
                row.empty.least(),
                ratio.median(),
                ratio.at(0.1),
                ratio.at(0.9),
                row.took.least() / row.empty.least()
            );
        }
    };
    let kernel = kernel::Kernel::load(&object, 1024)?;
    for name in kernel::SHIPPED {
        println!("{name} {:?}", kernel.sizes(name)?);
    }
    show(scenarios::established(&node, &object, 40)?);
    if std::env::var_os("ONLY").is_some() {
        return Ok(());
    }
    show(scenarios::denied(&node, &object, 40)?);
    for two in scenarios::two_cpus(&node, &object, 40)? {
        println!(
            "{} {}: alone {:.1} both {:.1} ratio {:.3}; empty {:.1} {:.1} ratio {:.3}",
            two.family.name(),
            two.way,
            two.alone.median(),
            two.both.median(),
            two.both.ratio(&two.alone).median(),
            two.empty_alone.median(),
            two.empty_both.median(),
            two.empty_both.ratio(&two.empty_alone).median()
        );
    }
    for new in scenarios::new_flows(&node, &object, 15)? {
        println!(
            "new {} x {}: one pair {:.1} ns {:.2}; drawn {:.1} ns {:.2}",
            new.entries,
            new.addresses,
            new.one_pair.took.median(),
            new.one_pair.ratio().median(),
            new.drawn.took.median(),
            new.drawn.ratio().median()
        );
    }
    Ok(())
}
