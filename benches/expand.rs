//! Parsing and expanding suites of 1,000 and 10,000 cases: as axes of one benchmark, and as one benchmark a case.
//! Ten times the cases should cost about ten times the time.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use regrade::suite::Suite;

const HEAD: &str = "schema_version = 1\nname = \"big\"\n[thresholds]\nabsolute_floor = \"10us\"\n";

fn as_axes(cases: usize) -> String {
    let m = cases / 100;
    format!(
        "{HEAD}[[benchmark]]\nname = \"gemm\"\noperator = \"gemm\"\n[benchmark.axes]\n\
         m = {{ from = 1, to = {m}, step = 1 }}\nn = {{ from = 1, to = 100, step = 1 }}\n"
    )
}

fn as_benchmarks(cases: usize) -> String {
    let mut text = HEAD.to_owned();
    for number in 0..cases {
        writeln!(text, "[[benchmark]]\nname = \"gemm-{number}\"\noperator = \"gemm\"\nm = {}", number + 1)
            .expect("writing to a text cannot fail");
    }
    text
}

fn expand(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expand");
    group.sample_size(10);
    for cases in [1_000, 10_000] {
        group.throughput(Throughput::Elements(cases as u64));
        for (shape, text) in [("axes", as_axes(cases)), ("benchmarks", as_benchmarks(cases))] {
            group.bench_with_input(BenchmarkId::new(shape, cases), &text, |bencher, text| {
                bencher.iter(|| {
                    let suite = Suite::parse("big.toml", black_box(text), &["cpu"]).expect("the suite is valid");
                    assert_eq!(suite.cases.len(), cases);
                    suite
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, expand);
criterion_main!(benches);
