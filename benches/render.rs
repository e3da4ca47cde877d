//! How long a report of 2,000 cases takes in each format. The bar: well under a second.
#![allow(missing_docs)]

#[path = "../tests/fixtures/reports/mod.rs"]
mod reports;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use regrade::render::{self, Style};

fn render_2000_cases(criterion: &mut Criterion) {
    let report = reports::large(2000);
    let style = Style { colour: true, width: 120 };
    let mut group = criterion.benchmark_group("render_2000_cases");
    group.sample_size(10);
    for name in ["terminal", "markdown", "json", "svg"] {
        let renderer = render::find(name).expect("the format is in the table");
        group.bench_function(name, |bencher| {
            bencher.iter(|| renderer.report(black_box(&report), style).expect("it draws"));
        });
    }
    group.finish();
}

criterion_group!(benches, render_2000_cases);
criterion_main!(benches);
