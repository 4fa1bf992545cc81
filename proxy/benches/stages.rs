//! What the plugin stages add to a request, by the size of its prompt.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use sluicegate::bench::Stages;

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    plugin_stages(&mut criterion);
    criterion.final_summary();
}

fn plugin_stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stages");
    for kib in [1, 4, 16, 64] {
        let stages = Stages::load(kib * 1024).expect("the bundled plugins load");
        group.throughput(Throughput::Bytes(kib as u64 * 1024));
        group.bench_function(BenchmarkId::new("three plugins, KiB", kib), |bencher| {
            bencher.iter(|| stages.call().expect("every plugin gives a result"));
        });
        group.bench_function(BenchmarkId::new("parse and render, KiB", kib), |bencher| {
            bencher.iter(|| stages.parse_and_render().expect("the request parses"));
        });
    }
    group.finish();
}
