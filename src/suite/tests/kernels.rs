//! Kernels of the user's in suites, and parameters that one backend alone has.

use super::{BACKENDS, parse, text};
use crate::domain::kernel::{KernelArgument, KernelArithmetic, KernelFill, KernelReference, Number};
use crate::domain::{ParamValue, Workload, WorkloadKind};
use crate::suite::{BackendView, HardwareFacts, Selection, Suite};

const AXPY: &str = r#"
[[benchmark]]
name = "axpy"
backends = ["nvidia"]
timing = "graph"
[benchmark.axes]
n = [1000, 4096]
[benchmark.kernel]
source = "kernels/axpy.cu"
function = "axpy"
options = ["-DN={n}"]
grid = ["ceil(n, 256)"]
block = [256]
shared = "4 * 256"
arguments = [
    { value = "2.5", type = "f32" },
    { buffer = "x", type = "f32", shape = ["n"] },
    { buffer = "y", type = "f32", shape = ["n", 2], fill = "ones", output = true },
    { value = "n - 1", type = "i32" },
]
flops = "2 * n"
arithmetic = "fp32"
bytes = "12 * n"
reference = { function = "plain", block = [32] }
tolerance = 1e-6
"#;

#[test]
fn every_size_of_a_kernel_is_worked_out_for_each_case() {
    let suite = parse(AXPY);
    let cases: Vec<_> = suite.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(cases, ["axpy/n=1000@nvidia", "axpy/n=4096@nvidia"]);
    let workload = &suite.cases[0].workload;
    assert_eq!((workload.kind, workload.text("timing")), (WorkloadKind::Kernel, Ok("graph")));
    assert_eq!(workload.params.get("device"), Some(&ParamValue::Int(0)));
    let kernel = workload.kernel.as_deref().expect("a kernel");
    assert_eq!((kernel.code.grid, kernel.code.block, kernel.code.shared), ([4, 1, 1], [256, 1, 1], 1024));
    assert_eq!(kernel.code.options, ["-DN=1000"]);
    assert_eq!(kernel.arithmetic, Some(KernelArithmetic::Fp32));
    assert_eq!((kernel.flops, kernel.bytes, kernel.tolerance), (Some(2000.0), Some(12_000.0), Some(1e-6)));
    assert_eq!(kernel.arguments[0], KernelArgument::Value { element: "f32".to_owned(), value: Number::Real(2.5) });
    assert_eq!(kernel.arguments[3], KernelArgument::Value { element: "i32".to_owned(), value: Number::Whole(999) });
    let KernelArgument::Buffer { shape, fill, output, .. } = &kernel.arguments[2] else { panic!("a buffer") };
    assert_eq!((shape.as_slice(), *fill, *output), ([1000, 2].as_slice(), KernelFill::Constant(1.0), true));
    let Some(KernelReference::Kernel(reference)) = &kernel.reference else { panic!("a kernel") };
    assert_eq!((reference.function.as_str(), reference.source.as_str()), ("plain", "kernels/axpy.cu"));
    assert_eq!((reference.grid, reference.block), ([4, 1, 1], [32, 1, 1]));
}

/// The suite above with one text in place of another is refused, and says so where it stands.
#[track_caller]
fn refused(old: &str, new: &str, message: &str, help: &str) {
    assert!(AXPY.contains(old), "{old}");
    let error = Suite::parse("test.toml", &text(&AXPY.replacen(old, new, 1)), BACKENDS).expect_err(new).to_string();
    assert!(error.contains(message) && error.contains(help), "wanted `{message}`, `{help}`, got\n{error}");
    let first_line = new.lines().next().unwrap_or_default();
    assert!(error.contains(first_line.trim()) || error.contains("test.toml:"), "{error}");
}

#[test]
fn what_is_wrong_with_a_kernel_is_said_where_it_stands() {
    refused("backends = [\"nvidia\"]", "", "on the nvidia backend alone", "backends = [\"nvidia\"]");
    refused("timing = \"graph\"", "batch = 3", "unknown key `batch`", "timing, pace, device, energy");
    refused("timing = \"graph\"", "timing = \"warm\"", "must be one of cold, hot, batch, graph", "");
    refused("axpy.cu", "axpy.c", "is no kernel's file", ".cubin");
    refused("function = \"axpy\"", "functoin = \"axpy\"", "unknown key `functoin`", "did you mean `function`?");
    refused("[\"ceil(n, 256)\"]", "[\"ceil(m, 256)\"]", "`m` is no axis", "its axes are n");
    refused("[\"ceil(n, 256)\"]", "[\"n - 1000\"]", "is 0 where n = 1000", "from 1 to");
    for old in ["kernels/axpy.cu", "function = \"axpy", "-DN={n}", "function = \"plain"] {
        refused(
            old,
            &format!("{old}-{{m}}"),
            "no axis is named `m`",
            "known axes: n; for the literal text write {{m}}",
        );
    }
    let options = "options = [\"-DN={n}\"]";
    refused(options, "include = [\"{m}/include\"]", "no axis is named `m`", "");
    refused(options, "architecture = \"sm_{m}\"", "no axis is named `m`", "");
    refused(
        "arithmetic = \"fp32\"",
        "arithmetic = \"fp16\"",
        "unknown unit `fp16`",
        "known units: fp32, tf32, half, fp8, int8",
    );
    refused("flops = \"2 * n\"", "", "`arithmetic` without `flops`", "");
    for bad in ["0.0", "-1e-6", "nan", "inf"] {
        refused("tolerance = 1e-6", &format!("tolerance = {bad}"), "a tolerance of", "a finite number above 0");
    }
    refused("function = \"axpy\"", "function = \" \"", "the function has no name", "");
    refused("function = \"plain\"", "function = \"\"", "the function has no name", "");
    let block = "block = [256]\n";
    refused(block, "block = [256]\ncluster = [4, 4, 2]\n", "a cluster of 32 blocks", "at most 16");
    refused(
        block,
        "block = [256]\ncluster = [3]\n",
        "[4, 1, 1] blocks is not made of clusters of [3, 1, 1]",
        "a multiple",
    );
    refused("[\"ceil(n, 256)\"]", "[]", "one to three directions", "");
    refused("block = [256]", "block = [64, 64]", "a block of 4096 threads", "at most 1024");
    refused(
        "type = \"f32\", shape = [\"n\"] }",
        "type = \"fp32\", shape = [\"n\"] }",
        "unknown element type `fp32`",
        "`f32`",
    );
    refused(", shape = [\"n\"] }", " }", "buffer `x` has no shape", "");
    refused(
        "[\"n\", 2]",
        "[\"n\", 1099511627776]",
        "`y` of shape [1000, 1099511627776] where n = 1000",
        "at most 140737488355328",
    );
    refused("fill = \"ones\"", "fill = \"one\"", "unknown fill `one`", "`ones`");
    refused("type = \"i32\"", "type = \"int\"", "unknown type `int` of a value", "u64");
    refused("{ value = \"2.5\", type", "{ type", "either a buffer or a value", "");
    refused(", output = true", "", "no buffer is an output", "output = true");
    refused("function = \"plain\", block = [32]", "operator = \"softmx\"", "is no reference operator", "`softmax`");
    refused("function = \"plain\", block = [32]", "operator = \"rmsnorm\", inputs = [\"x\"]", "reads 2 buffers", "");
    refused("function = \"plain\", block = [32]", "operator = \"copy\", inputs = [\"z\"]", "buffer `z`", "x, y");
    refused("buffer = \"y\"", "buffer = \"x\"", "two buffers are named `x`", "its own");
    refused("function = \"plain\", block = [32]", "block = [32]", "either a kernel or an operator", "");
}

#[test]
fn operators_are_references_only_of_what_they_can_compute() {
    let text = |operator: &str, inputs: &str, shapes: [&str; 4]| {
        let [a, b, c, out] = shapes.map(|shape| format!("type = \"f32\", shape = {shape}"));
        format!(
            "[[benchmark]]\nname = \"k\"\nbackends = [\"nvidia\"]\n[benchmark.kernel]\nsource = \"k.cu\"\nfunction = \"k\"\n\
             grid = [1]\nblock = [1]\narguments = [{{ buffer = \"a\", {a} }}, {{ buffer = \"b\", {b} }}, {{ buffer = \"c\", {c} }}, \
             {{ buffer = \"out\", {out}, output = true }}]\nreference = {{ operator = \"{operator}\", inputs = {inputs} }}\n"
        )
    };
    let [one, two, three] = ["[\"a\"]", "[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]"];
    for (operator, inputs, shapes) in [
        ("softmax", one, ["[2, 3, 8]", "[1]", "[1]", "[6, 8]"]),
        ("copy", one, ["[48]", "[1]", "[1]", "[6, 8]"]),
        ("rmsnorm", two, ["[6, 8]", "[8]", "[1]", "[6, 8]"]),
        ("layernorm", three, ["[6, 8]", "[8]", "[1, 8]", "[6, 8]"]),
        ("gemm", two, ["[6, 4]", "[4, 8]", "[1]", "[6, 8]"]),
    ] {
        assert_eq!(parse(&text(operator, inputs, shapes)).cases.len(), 1, "{operator}");
    }
    for (operator, inputs, shapes, message) in [
        ("softmax", one, ["[6, 4]", "[1]", "[1]", "[6, 8]"], "`a` is 6 x 4 instead of 6 x 8"),
        ("softmax", one, ["[48]", "[1]", "[1]", "[6, 8]"], "`a` is 1 x 48 instead of 6 x 8"),
        ("copy", one, ["[47]", "[1]", "[1]", "[6, 8]"], "`a` has 47 elements instead of 48"),
        ("rmsnorm", two, ["[6, 8]", "[6]", "[1]", "[6, 8]"], "`b` has 6 elements instead of 8"),
        ("layernorm", three, ["[6, 8]", "[8]", "[9]", "[6, 8]"], "`c` has 9 elements instead of 8"),
        ("gemm", two, ["[5, 4]", "[4, 8]", "[1]", "[6, 8]"], "`a` is 5 x 4 instead of 6 x 4"),
        ("gemm", two, ["[6, 4]", "[8, 4]", "[1]", "[6, 8]"], "`b` is 8 x 4 instead of 4 x 8"),
    ] {
        let text = super::text(&text(operator, inputs, shapes));
        let error = Suite::parse("test.toml", &text, BACKENDS).expect_err(message).to_string();
        assert!(error.contains(message) && error.contains("cannot compute this"), "wanted `{message}`, got\n{error}");
    }
}

#[test]
fn every_text_of_a_kernel_is_a_template() {
    let text = AXPY
        .replacen(
            "options = [\"-DN={n}\"]",
            "include = [\"v{n}/include\"]\narchitecture = \"sm_{n}\"\noptions = [\"-DX={{n}}\"]",
            1,
        )
        .replacen("axpy.cu", "axpy-{n}.cu", 1);
    let suite = parse(&text);
    let code = &suite.cases[0].workload.kernel.as_deref().expect("a kernel").code;
    assert_eq!((code.source.as_str(), code.architecture.as_deref()), ("kernels/axpy-1000.cu", Some("sm_1000")));
    assert_eq!(
        (code.include.as_slice(), code.options.as_slice()),
        (&["v1000/include".to_owned()][..], &["-DX={n}".to_owned()][..])
    );
}

#[test]
fn parameters_of_measuring_are_checked_as_axes_too() {
    let axes = "[benchmark.axes]\n";
    let with = |more: &str| AXPY.replacen("timing = \"graph\"\n", "", 1).replacen(axes, &format!("{axes}{more}\n"), 1);
    let suite = parse(&with("timing = [\"cold\", \"graph\"]"));
    assert_eq!(suite.cases.len(), 4);
    assert_eq!(suite.cases[0].workload.text("timing"), Ok("cold"));
    refused(
        "timing = \"graph\"\n[benchmark.axes]",
        "[benchmark.axes]\ntiming = [\"warm\"]",
        "`timing` of `kernel` must be one of",
        "",
    );
    refused(
        "[benchmark.axes]",
        "[benchmark.axes]\ndevice = [\"first\"]",
        "`device` of `kernel` must be a whole number",
        "",
    );
    refused("[benchmark.axes]", "[benchmark.axes]\npace = [\"slow\"]", "`pace` of `kernel` must be one of", "");
    refused("[benchmark.axes]", "[benchmark.axes]\nenergy = [1, 2]", "`energy` of `kernel` must be true or false", "");
    refused(
        "[benchmark.axes]",
        "[benchmark.axes]\ntiming = [\"cold\"]",
        "`timing` is set here and by an axis",
        "keep one",
    );
    refused("timing = \"graph\"", "timing = [\"cold\", \"graph\"]", "`timing` takes one value here", "under `axes`");
}

#[test]
fn values_are_held_by_their_types() {
    let value = |value: &str, element: &str| {
        let text = AXPY.replacen(
            "{ value = \"n - 1\", type = \"i32\" }",
            &format!("{{ value = {value}, type = \"{element}\" }}"),
            1,
        );
        match parse(&text).cases[0].workload.kernel.as_deref().expect("a kernel").arguments[3] {
            KernelArgument::Value { value, .. } => value,
            KernelArgument::Buffer { .. } => panic!("a value"),
        }
    };
    assert_eq!(value("\"18446744073709551615\"", "u64"), Number::Large(u64::MAX));
    assert_eq!(value("9007199254740993", "i64"), Number::Whole((1 << 53) + 1));
    assert_eq!(value("-2147483648", "i32"), Number::Whole(i32::MIN.into()));
    assert_eq!(value("\"n / 3\"", "f32"), Number::Real(333.0));
    assert_eq!(value("1e-5", "f64"), Number::Real(1e-5));
    let last = "value = \"n - 1\", type = \"i32\"";
    for (new, message, help) in [
        (
            "value = \"n * n * n * n\", type = \"i32\"",
            "`n * n * n * n` is 1000000000000 where n = 1000",
            "to 2147483647",
        ),
        ("value = -1, type = \"u32\"", "`-1` is -1", "from 0 to 4294967295"),
        ("value = \"9223372036854775808\", type = \"i64\"", "is 9223372036854775808", "to 9223372036854775807"),
        ("value = \"1e39\", type = \"f32\"", "`1e39` is no value of type f32", "a finite f32"),
        ("value = \"1e400\", type = \"f64\"", "`1e400` is no value of type f64", ""),
        ("value = nan, type = \"f64\"", "is no value of type f64", ""),
        ("value = 2.5, type = \"i32\"", "`2.5` is no whole number", ""),
    ] {
        refused(last, new, message, help);
    }
}

#[test]
fn parameters_of_one_backend_stay_with_its_cases() {
    let suite = parse(
        "[[benchmark]]\nname = \"gemm\"\noperator = \"gemm\"\nbackends = [\"cpu\", \"nvidia\"]\nlayout = \"auto\"\n\
         timing = \"graph\"\naxes = { batch = [1, 8] }\n",
    );
    let names = |place: usize| suite.cases[place].workload.params.keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(names(0), ["k", "m", "n", "precision", "threads"]);
    assert!(names(1).contains(&"layout") && suite.cases[1].workload.text("timing") == Ok("graph"));
    // Other work than one backend can do is skipped there, and never passed over.
    let supports = |_: &Workload| Ok(());
    let machine =
        ["cpu", "nvidia"].map(|name| BackendView { name, ready: Ok(HardwareFacts::default()), supports: &supports });
    let plan = suite.plan(&Selection::default(), &machine, 1, None).expect("a plan");
    let skip = |id: &str| plan.cases.iter().find(|case| case.id.as_str() == id).expect("the case").skip.clone();
    assert_eq!(skip("gemm/batch=1@cpu"), None);
    assert_eq!(skip("gemm/batch=8@nvidia"), None);
    let skip = skip("gemm/batch=8@cpu").expect("skipped");
    assert!(skip.reason.contains("batch = 8 is not for cpu") && skip.remedy.contains("[\"nvidia\"]"), "{skip:?}");
    let alone = text("[[benchmark]]\nname = \"gemm\"\noperator = \"gemm\"\nlayout = \"nt\"\n");
    let error = Suite::parse("test.toml", &alone, BACKENDS).expect_err("nobody reads it").to_string();
    assert!(error.contains("only the nvidia backend understands `layout`"), "{error}");
}
