//! Targets: which cases they come to, beside which others, and what is refused.

use super::{BACKENDS, parse, text};
use crate::domain::{Comparison, Target};
use crate::suite::{Suite, SuiteError};

fn targets<'s>(suite: &'s Suite, id: &str) -> &'s [Target] {
    &suite.cases.iter().find(|case| case.id.as_str() == id).unwrap_or_else(|| panic!("no case {id}")).targets
}

#[test]
fn a_plain_text_is_about_every_case_and_required() {
    let suite = parse(
        r#"
        [[benchmark]]
        name = "gemm"
        operator = "gemm"
        axes = { m = [64, 128] }
        targets = ["latency <= 2 ms", "flop_rate>=1.6 TFLOP/s", "peak_memory < 4 GiB", "throughput > 950"]
        "#,
    );
    for id in ["gemm/m=64@cpu", "gemm/m=128@cpu"] {
        let found: Vec<(&str, &str, Comparison, f64)> = targets(&suite, id)
            .iter()
            .map(|target| (target.that.as_str(), target.metric.as_str(), target.comparison, target.value))
            .collect();
        assert_eq!(
            found,
            [
                ("latency <= 2 ms", "latency", Comparison::AtMost, 0.002),
                ("flop_rate >= 1.6 TFLOP/s", "flop_rate", Comparison::AtLeast, 1.6e12),
                ("peak_memory < 4 GiB", "peak_memory", Comparison::Below, 4_294_967_296.0),
                ("throughput > 950", "throughput", Comparison::Above, 950.0),
            ]
        );
        assert!(targets(&suite, id).iter().all(|target| target.required && target.of.is_none()));
    }
}

#[test]
fn a_table_says_of_which_cases_beside_what_and_why() {
    let suite = parse(
        r#"
        [[benchmark]]
        name = "fused"
        operator = "attention"
        implementation = "tiled"
        axes = { seq = [128, 256], batch = [1, 2] }
        backends = ["cpu", "nvidia"]
        targets = [
            { that = "peak_memory <= 0.34", of = "naive", source = "the roadmap", required = false },
            { that = "latency <= 105%", of = "naive", when = ["seq >= 200", 'backend != "nvidia"'] },
            { that = "latency <= 3 ms", when = "batch == 2" },
        ]
        [[benchmark]]
        name = "naive"
        operator = "attention"
        batch = 1
        backends = ["cpu", "nvidia"]
        axes = { seq = [128, 256, 512] }
        "#,
    );
    let found = |id: &str| -> Vec<String> { targets(&suite, id).iter().map(ToString::to_string).collect() };
    // What the other benchmark has no axis for does not matter.
    assert_eq!(found("fused/seq=128/batch=1@cpu"), ["peak_memory <= 0.34 of naive/seq=128@cpu"]);
    assert_eq!(
        found("fused/seq=256/batch=2@cpu"),
        ["peak_memory <= 0.34 of naive/seq=256@cpu", "latency <= 105% of naive/seq=256@cpu", "latency <= 3 ms"]
    );
    assert_eq!(
        found("fused/seq=256/batch=2@nvidia"),
        ["peak_memory <= 0.34 of naive/seq=256@nvidia", "latency <= 3 ms"]
    );
    let [first, second, _] = targets(&suite, "fused/seq=256/batch=2@cpu") else { panic!("three targets") };
    assert_eq!((first.required, first.source.as_deref()), (false, Some("the roadmap")));
    assert_eq!((second.value, second.required), (1.05, true));
}

#[test]
fn a_counterpart_may_run_on_another_backend_where_there_is_but_one() {
    let suite = parse(
        r#"
        [[benchmark]]
        name = "mine"
        operator = "gemm"
        backends = ["xla", "nvidia"]
        targets = [{ that = "latency <= 1.1", of = "theirs" }]
        [[benchmark]]
        name = "theirs"
        operator = "gemm"
        backends = ["nvidia"]
        "#,
    );
    for id in ["mine@xla", "mine@nvidia"] {
        assert_eq!(targets(&suite, id)[0].of.as_ref().map(ToString::to_string).as_deref(), Some("theirs@nvidia"));
    }
}

#[test]
fn a_command_has_the_targets_of_its_own_metrics() {
    let suite = parse(
        r#"
        [[benchmark]]
        name = "serve"
        command = ["./serve", "{mode}"]
        axes = { mode = ["fast", "small"], cached = [true, false] }
        targets = [
            "tok_rate >= 1200 tokens/s",
            { that = "hit-rate >= 90 %", when = ["mode = 'f*'", "cached = true"] },
        ]
        metrics.tok_rate = { unit = "tokens/s", direction = "higher", kind = "rate" }
        metrics.hit-rate = { unit = "1", direction = "higher", kind = "ratio" }
        "#,
    );
    let values = |id: &str| targets(&suite, id).iter().map(|target| target.value).collect::<Vec<_>>();
    assert_eq!(values("serve/mode=fast/cached=true@cpu"), [1200.0, 0.9]);
    assert_eq!(values("serve/mode=fast/cached=false@cpu"), [1200.0]);
    assert_eq!(values("serve/mode=small/cached=true@cpu"), [1200.0]);
}

/// A suite with benchmark `a` (gemm with two values of m) and these targets on line 7, and three others.
fn with(targets: &str) -> String {
    text(&format!(
        "[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\naxes = {{ m = [64, 128] }}\ntargets = [{targets}]\n\
         [[benchmark]]\nname = \"other\"\noperator = \"gemm\"\naxes = {{ m = [64], k = [64, 128] }}\n\
         [[benchmark]]\nname = \"one\"\noperator = \"gemm\"\n\
         [[benchmark]]\nname = \"own\"\ncommand = [\"x\"]\n\
         metrics.tok_rate = {{ unit = \"tokens/s\", direction = \"higher\", kind = \"rate\" }}\n"
    ))
}

fn refused(targets: &str) -> SuiteError {
    Suite::parse("test.toml", &with(targets), BACKENDS).expect_err(targets)
}

#[test]
fn mistakes_are_shown_with_their_line_and_remedy() {
    Suite::parse("test.toml", &with("\"latency <= 2 ms\", { that = \"latency <= 0.5\", of = \"one\" }"), BACKENDS)
        .expect("nothing is wrong with it");
    for (target, message, help) in [
        ("\"latncy <= 2 ms\"", "unknown metric `latncy`", "did you mean `latency`?"),
        ("\"tok_rate >= 3\"", "unknown metric `tok_rate`", "described in the benchmark's `metrics`"),
        ("\"<= 2 ms\"", "expected the name of a metric", "as in `latency <= 2 ms`"),
        ("\"\"", "expected the name of a metric", ""),
        ("\"latency 2 ms\"", "expected a comparison after `latency`", "one of >=, <=, >, <"),
        ("\"latency = 2 ms\"", "a target is a bound", "one of >=, <=, >, <"),
        ("\"latency != 2 ms\"", "a target is a bound", ""),
        ("\"latency <=\"", "expected a value after the comparison", "as in"),
        ("\"latency <= 2\"", "`2` has no unit", ""),
        ("\"latency <= 2 MiB\"", "unknown unit `MiB`", ""),
        ("\"latency <= -2 ms\"", "is not a duration", ""),
        ("\"flop_rate >= 1.6\"", "`1.6` has no unit; known units: FLOP/s", ""),
        ("\"throughput >= 5 GB/s\"", "no number of items/s", ""),
        ("3", "a target such as", ""),
        ("{ of = \"one\" }", "`that` is missing", "add `that`"),
        ("{ that = \"latency <= 2 ms\", fo = \"one\" }", "unknown key `fo`", "did you mean `of`?"),
        ("{ that = \"latency <= 0.5\", of = \"ohter\" }", "no benchmark is named `ohter`", "did you mean `other`?"),
        ("{ that = \"latency <= 0.5\", of = \"a\" }", "beside itself is always 1", "another benchmark"),
        ("{ that = \"latency <= 2 ms\", of = \"one\" }", "is no number", "a ratio of two cases"),
        (
            "{ that = \"latency <= 0.5\", of = \"other\" }",
            "`a/m=64@cpu` has several counterparts",
            "an axis of `a` too",
        ),
        ("{ that = \"latency <= 0.5\", of = \"other\", when = \"m = 128\" }", "has no counterpart", "values of `m`"),
        ("{ that = \"latency <= 2 ms\", when = \"n = 64\" }", "`a` has no axis `n`", "known axes: m, backend"),
        (
            "{ that = \"latency <= 2 ms\", when = \"memory >= 64\" }",
            "`a` has no axis `memory`",
            "`when` of the benchmark",
        ),
        ("{ that = \"latency <= 2 ms\", when = \"m = 8192\" }", "no case of `a` has m = 8192", "`m` is 64, 128"),
        ("{ that = \"latency <= 2 ms\", when = \"m = many\" }", "`many` is no number", "as in `m = 8192`"),
        ("{ that = \"latency <= 2 ms\", when = \"m =\" }", "expected a value", ""),
        ("{ that = \"latency <= 2 ms\", when = \"m 3\" }", "expected a comparison after `m`", ""),
        ("{ that = \"latency <= 2 ms\", when = \"backend > 'cpu'\" }", "has no order", "= or !="),
        ("{ that = \"latency <= 2 ms\", when = [\"m = 64\", \"m = 128\"] }", "m = 64 and m = 128", ""),
        ("{ that = \"latency <= 2 ms\", when = 3 }", "a text or a list of texts", ""),
        ("{ that = \"latency <= 2 ms\", required = \"no\" }", "expected a boolean", ""),
        ("\"latency <= 2 ms\", \"latency<=2 ms\"", "has the target `latency <= 2 ms` twice", "write it once"),
    ] {
        let error = refused(target);
        let SuiteError::Invalid(list) = &error else { panic!("{error}") };
        let found = list.iter().any(|one| {
            one.line == 7 && one.message.contains(message) && one.help.as_deref().unwrap_or_default().contains(help)
        });
        assert!(found, "{target}: wanted `{message}`, `{help}`, got\n{error}");
    }
    let long = format!("{{ that = \"latency <= 2 ms\", source = \"{}\" }}", "x".repeat(301));
    assert!(refused(&long).to_string().contains("at most 300"));
}

#[test]
fn a_bad_target_is_pointed_at_inside_its_text() {
    insta::assert_snapshot!(refused("\"latency <= 2 ms\", { that = \"peak_memory <= 40 Gib\" }"), @r#"
    error: unknown unit `Gib` in `40 Gib`; known units: B, kB, KB, MB, GB, TB, KiB, MiB, GiB, TiB
     --> test.toml:7:56
      |
    7 | targets = ["latency <= 2 ms", { that = "peak_memory <= 40 Gib" }]
      |                                                        ^^^^^^
      |
      = help: as in `latency <= 2 ms`, `peak_memory <= 4 GiB`, `flop_rate >= 1.6 TFLOP/s`, `throughput >= 950`
    "#);
}

#[test]
fn the_metric_of_the_other_benchmark_must_be_the_same() {
    let command = |unit: &str, more: &str| {
        format!(
            "[[benchmark]]\nname = \"c{unit}\"\ncommand = [\"x\"]\n{more}\n\
             metrics.tok_rate = {{ unit = \"{unit}\", direction = \"higher\", kind = \"rate\" }}\n"
        )
    };
    let of = |of: &str| {
        let target = format!("targets = [{{ that = \"tok_rate >= 2\", of = \"{of}\" }}]");
        let body = format!(
            "{}{}{}",
            command("t", &target),
            command("u", ""),
            "[[benchmark]]\nname = \"d\"\ncommand = [\"x\"]\n"
        );
        Suite::parse("test.toml", &text(&body), BACKENDS).expect_err(of).to_string()
    };
    assert!(of("cu").contains("`tok_rate` is in t here and in u in `cu`"), "{}", of("cu"));
    assert!(of("d").contains("`d` has no metric `tok_rate`"), "{}", of("d"));
}

#[test]
fn a_success_rate_is_about_cases_together_and_laid_on_each() {
    let suite = parse(
        r#"
        targets = [
            "success_rate >= 90%",
            { that = "success_rate > 0.5", over = ["compile", "small"], required = false, source = "the roadmap" },
        ]
        [[benchmark]]
        name = "compile"
        operator = "gemm"
        axes = { m = [64, 128, 256] }
        backends = ["cpu", "nvidia"]
        targets = ["success_rate >= 95 %", { that = "success_rate >= 95 %", when = ["m < 200", "backend = 'cpu'"] }]
        [[benchmark]]
        name = "small"
        operator = "gemm"
        [[benchmark]]
        name = "other"
        operator = "gemm"
        "#,
    );
    let found = |id: &str| -> Vec<(String, String, f64)> {
        let told = |target: &Target| {
            let over = target.over.as_ref().expect("over cases");
            (target.to_string(), over.name.clone(), target.value)
        };
        targets(&suite, id).iter().map(told).collect()
    };
    let all = ("success_rate >= 90% over 8 cases".to_owned(), "all cases".to_owned(), 0.9);
    let two = ("success_rate > 0.5 over 7 cases".to_owned(), "compile, small".to_owned(), 0.5);
    let own = ("success_rate >= 95 % over 6 cases".to_owned(), "compile".to_owned(), 0.95);
    let some = "compile where m < 200 and backend = 'cpu'".to_owned();
    let some = ("success_rate >= 95 % over 2 cases".to_owned(), some, 0.95);
    assert_eq!(found("compile/m=64@cpu"), [own.clone(), some, all.clone(), two.clone()]);
    assert_eq!(found("compile/m=64@nvidia"), [own.clone(), all.clone(), two.clone()]);
    assert_eq!(found("small@cpu"), [all.clone(), two]);
    assert_eq!(found("other@cpu"), [all]);
    let last = targets(&suite, "small@cpu").last().expect("two targets");
    assert_eq!((last.required, last.source.as_deref()), (false, Some("the roadmap")));
}

#[test]
fn mistakes_about_cases_together_are_shown_with_their_remedy() {
    for (target, message, help) in [
        ("\"success_rate >= 95\"", "`95` is more than all cases", "success_rate >= 95 %"),
        ("\"success_rate >= 2 ms\"", "is no number", "a share of the cases"),
        ("\"success_rate = 1\"", "a target is a bound", "one of >="),
        ("\"success_rate\"", "expected a comparison after `success_rate`", ""),
        ("{ that = \"success_rate >= 0.9\", of = \"one\" }", "no value of a case", "leave out `of`"),
        ("{ that = \"success_rate >= 0.9\", over = \"one\" }", "`over` names benchmarks", "of the suite"),
        ("{ that = \"latency <= 2 ms\", over = \"one\" }", "`over` names benchmarks", "leave out `over`"),
        ("\"success_rate >= 0.9\", \"success_rate >= 0.9\"", "over 2 cases` twice", "write it once"),
    ] {
        let error = refused(target);
        let SuiteError::Invalid(list) = &error else { panic!("{error}") };
        let found = list.iter().any(|one| {
            one.line == 7 && one.message.contains(message) && one.help.as_deref().unwrap_or_default().contains(help)
        });
        assert!(found, "{target}: wanted `{message}`, `{help}`, got\n{error}");
    }
    let of_the_suite = |target: &str| {
        let body = format!("targets = [{target}]\n[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\n");
        Suite::parse("test.toml", &text(&body), BACKENDS).expect_err(target).to_string()
    };
    for (target, words) in [
        ("\"latency <= 2 ms\"", ["together, and `latency` is not", "into the `targets` of a benchmark"]),
        ("\"success_rate >= 95\"", ["`95` is more than all cases", "test.toml:3:"]),
        ("{ that = \"success_rate >= 1\", over = \"b\" }", ["no benchmark is named `b`", "benchmarks: a"]),
        ("{ that = \"success_rate >= 1\", when = \"m = 1\" }", ["neither `of` nor `when`", "with `over`"]),
        ("{ that = \"success_rate >= 1\", ovr = \"a\" }", ["unknown key `ovr`", "did you mean `over`?"]),
    ] {
        let error = of_the_suite(target);
        assert!(words.iter().all(|word| error.contains(word)), "{target}: wanted {words:?}, got\n{error}");
    }
    let own = "[[benchmark]]\nname = \"a\"\ncommand = [\"x\"]\n\
        metrics.success_rate = { unit = \"1\", direction = \"higher\", kind = \"ratio\" }\n";
    let error = Suite::parse("test.toml", &text(own), BACKENDS).expect_err("a name that is taken").to_string();
    assert!(error.contains("the share of cases that were measured"), "{error}");
}

/// A suite in a folder of its own with these prices, one benchmark and these targets on line 7.
fn priced(prices: &str, targets: &str) -> Result<Suite, SuiteError> {
    let folder = tempfile::tempdir().expect("a folder");
    let table = "[[price]]\ndevice = \"v5e\"\nper_hour = 1.2\nterms = \"x\"\nsource = \"y\"\ndate = 2026-09-27\n";
    std::fs::write(folder.path().join("prices.toml"), format!("{prices}\n{table}")).expect("a file");
    let body = format!(
        "prices = \"prices.toml\"\n[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\ntargets = [{targets}]\n\
         [[benchmark]]\nname = \"b\"\noperator = \"gemm\"\n"
    );
    let path = folder.path().join("suite.toml");
    std::fs::write(&path, text(&body)).expect("a file");
    Suite::load(&path, BACKENDS)
}

#[test]
fn a_cost_is_bounded_in_the_currency_of_the_prices() {
    let targets = "\"cost_per_pflop <= 0.005 EUR\", \"cost_per_million_items < 0.2 EUR/Mitems\", \
        { that = \"cost_per_pflop <= 0.5\", of = \"b\" }";
    let suite = priced("currency = \"EUR\"", targets).expect("nothing is wrong with it");
    let values: Vec<f64> = suite.cases[0].targets.iter().map(|target| target.value).collect();
    assert_eq!(values, [0.005, 0.2, 0.5]);
    assert_eq!(suite.cases[0].targets[0].that, "cost_per_pflop <= 0.005 EUR");
    // Both sides of a ratio, and whoever decides again, know the unit.
    for case in &suite.cases {
        assert_eq!(case.metric("cost_per_pflop").expect("a cost").unit, "EUR/PFLOP");
        assert_eq!(case.metric("cost_per_million_items").expect("a cost").unit, "EUR/Mitems");
    }
    assert_eq!(suite.prices.len(), 1);
    // Of a text in no folder the prices are not known; the bound itself says the currency.
    let bare = "prices = \"p.toml\"\n[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\n\
        targets = [\"cost_per_pflop <= 0.005 EUR\"]\n";
    let suite = Suite::parse("test.toml", &text(bare), BACKENDS).expect("nothing is wrong with it");
    assert_eq!(suite.cases[0].metric("cost_per_pflop").expect("a cost").unit, "EUR/PFLOP");
    assert!(suite.prices.is_empty());
}

#[test]
fn mistakes_about_costs_are_shown_with_their_remedy() {
    for (target, message, help) in [
        ("\"cost_per_pflop <= 0.005 EUR\"", "is in EUR, and the suite's prices are in USD", "write the bound in USD"),
        ("\"cost_per_pflop <= 0.005\"", "`0.005` says no currency", "cost_per_pflop <= 0.005 USD"),
        ("\"cost_per_pflop <= 0.005 dollars\"", "says no currency", ""),
        ("\"cost_per_pflop <= USD\"", "is no number of USD/PFLOP", ""),
        ("\"cost_per_pflop <= 0.2 USD/Mitems\"", "is no number of USD/PFLOP", "as in"),
        ("{ that = \"cost_per_pflop <= 0.5 USD\", of = \"b\" }", "is no number", "a ratio of two cases"),
    ] {
        let error = priced("currency = \"USD\"", target).expect_err(target).to_string();
        assert!(
            error.contains(message) && error.contains(help) && error.contains("suite.toml:7:"),
            "{target}: {error}"
        );
    }
    let bare = "[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\ntargets = [\"cost_per_pflop <= 0.005 USD\"]\n";
    let error = Suite::parse("test.toml", &text(bare), BACKENDS).expect_err("no prices").to_string();
    assert!(error.contains("made of prices, and this suite has none") && error.contains("prices ="), "{error}");
    let error = priced("curency = \"USD\"", "").expect_err("a misspelt key").to_string();
    assert!(error.contains("prices.toml:1:") && error.contains("did you mean `currency`?"), "{error}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("suite.toml");
    std::fs::write(&path, text("prices = \"gone.toml\"\n[[benchmark]]\nname = \"a\"\noperator = \"gemm\"\n"))
        .expect("a file");
    let error = Suite::load(&path, BACKENDS).expect_err("no such file").to_string();
    assert!(error.contains("cannot read the prices") && error.contains("suite.toml:3:"), "{error}");
}
