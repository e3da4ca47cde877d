"""The format of a program and its manifest: seeded inputs, the portable artifact, reference values.

Used by ``export.py`` and ``from_torch.py``, and by your own exporters; README.md has an example. The generator of
inputs is implemented twice, here and in regrade: not a bit of it may change, or every reference value is wrong.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
from jaxlib import _jax
from jaxlib.mlir import ir, passmanager
from jaxlib.mlir.dialects import stablehlo

#: Old enough for every plugin in use, new enough for batched gathers (a training step needs them).
VHLO_VERSION = "1.9.0"

EVERYWHERE = ("cpu", "cuda", "rocm", "oneapi", "tpu")

#: The largest |difference| over the largest |value| of an output that is no error, by the precision of the matmuls.
TOLERANCE = {"f32": 1e-3, "bf16": 5e-2}

DTYPES = {"f32": np.dtype(np.float32), "bf16": np.dtype(ml_dtypes.bfloat16), "i32": np.dtype(np.int32)}
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Input:
    """One argument: ``fill`` is ``normal`` (of deviation ``scale``), ``constant`` (``scale`` itself) or ``index``
    (integers from 0 up to, not including, ``scale``)."""

    name: str
    dtype: str
    shape: tuple
    fill: str
    scale: float

    @property
    def size(self):
        return math.prod(self.shape)


@dataclass
class Program:
    """A pure function of a flat list of arrays, and what a manifest says about it."""

    name: str
    description: str
    #: Takes one array per input, returns a tuple of arrays. The first ``carry`` outputs are the next first inputs.
    function: Callable
    inputs: list
    items: int
    item: str
    precision: str = "f32"
    carry: int = 0
    seed: int = 1
    platforms: tuple = EVERYWHERE
    #: Computes the outputs from numpy arrays in another way; without it ``function`` runs on the CPU. Where that
    #: cannot be, give a function from ``jax.jit``: its operations are counted, too.
    reference: Callable | None = None
    #: Versions of what the program comes from, if that is not JAX.
    made_with: tuple = ()
    #: Makes the lowering possible on a machine without the hardware: a context manager.
    lowering: Callable | None = None

    @property
    def parameters(self):
        """The count of elements that are drawn or carried, tokens and labels left out."""
        return sum(i.size for i in self.inputs if i.fill != "index")


# Inputs


def splitmix64(state, first, count):
    """Numbers ``first`` to ``first + count`` of the stream that starts at ``state``."""
    z = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    z *= np.uint64(GOLDEN)
    z += np.uint64(state)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def generate(spec, number, seed):
    """The values of input ``number``, counted from 0."""
    dtype = DTYPES[spec.dtype]
    if spec.fill == "constant":
        return np.full(spec.shape, np.float32(spec.scale)).astype(dtype)
    out = np.empty(spec.size, dtype)
    state = (seed + ((number + 1) << 32)) & MASK
    step = 1 << 18  # The chunk stays in the cache: three times as fast, with no gigabytes of scratch space.
    for first in range(0, spec.size, step):
        z = splitmix64(state, first, min(step, spec.size - first))
        if spec.fill == "index":
            out[first : first + len(z)] = (z % np.uint64(spec.scale)).astype(np.int32)
        elif spec.fill == "normal":
            # Sixteen bits four times: a sum of four uniforms is exact in integers, and near enough to a normal.
            t = sum(((z >> np.uint64(16 * j)) & np.uint64(0xFFFF)).astype(np.int64) for j in range(4))
            value = (t - 131070).astype(np.float64) / 37837.2 * spec.scale
            out[first : first + len(z)] = value.astype(np.float32).astype(dtype)
        else:
            raise ValueError(f"input {spec.name}: no fill is called {spec.fill!r}; use normal, constant or index")
    return out.reshape(spec.shape)


def generate_all(inputs, seed):
    return [generate(spec, number, seed) for number, spec in enumerate(inputs)]


# The artifact


def lower(program):
    """The program through JAX, for the first of its platforms; all platforms give the same text."""
    specs = [jax.ShapeDtypeStruct(i.shape, DTYPES[i.dtype]) for i in program.inputs]

    def function(*arguments):
        return program.function(*arguments)

    # The name of the function becomes the name of the module.
    function.__name__ = program.name.replace("-", "_")
    # Traces of other programs in this process must not be found again: names of inner functions come from them.
    jax.clear_caches()
    jit = jax.jit(function, donate_argnums=tuple(range(program.carry)), keep_unused=True)
    # "f32" means f32: by default a TPU multiplies in bf16 and a GPU in TF32, and no reference could be shared.
    with jax.default_matmul_precision("highest" if program.precision == "f32" else "default"):
        if program.lowering is None:
            return jit.trace(*specs).lower(lowering_platforms=program.platforms[:1])
        with program.lowering():
            return jit.trace(*specs).lower(lowering_platforms=program.platforms[:1])


def serialize(module):
    """(artifact, text) of a StableHLO module, both free of source locations: a moved line changes nothing."""
    with module.context:
        text = module.operation.get_asm(enable_debug_info=False)
        # A copy, because what is serialized becomes VHLO in place. Parsing gives it locations in the text.
        copy = ir.Module.parse(text)
        if "chlo." in text:
            # The exact GELU, for one, uses an operation of CHLO, a dialect with no promise of compatibility. As in
            # JAX's own export it becomes a composite: plugins that know the operation use it, others its parts.
            copy = stablehlo.deserialize_portable_artifact(
                module.context, _jax.mlir.serialize_portable_artifact(text, VHLO_VERSION)
            )
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(copy.operation)
        artifact = stablehlo.serialize_portable_artifact(copy, VHLO_VERSION)
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        back = stablehlo.deserialize_portable_artifact(context, artifact)
        # Attributes that have their default values are left out of what is read: compare artifacts, not texts.
        if stablehlo.serialize_portable_artifact(back, VHLO_VERSION) != artifact:
            raise ValueError("the artifact does not read back as the program it was made from")
    return artifact, text


def made_with(others):
    versions = [*others, f"jax {jax.__version__}", f"StableHLO {stablehlo.get_current_version()}"]
    return ", ".join([*versions, f"pinned to {VHLO_VERSION}"])


# Reference values


def positions(number, size, count):
    """Flat positions at which output ``number`` is compared: all of a small one, else drawn and in order."""
    if size <= count:
        return list(range(size))
    found, first = set(), 0
    while len(found) < count:
        for z in splitmix64((number + 1) << 32, first, count):
            if len(found) < count:
                found.add(int(z) % size)
        first += count
    return sorted(found)


def describe_outputs(shapes, values):
    """Output entries of a manifest. ``shapes`` are (dtype, shape) pairs, ``values`` arrays, or None without a
    reference."""
    each = 64 if len(shapes) <= 16 else 4
    entries = []
    for number, (dtype, shape) in enumerate(shapes):
        entry = {"dtype": dtype_name(dtype, f"output {number}"), "shape": list(shape), "largest": None}
        if values is not None:
            flat = np.asarray(values[number]).reshape(-1).astype(np.float64)
            if not np.isfinite(flat).all():
                raise ValueError(f"output {number} of the reference is not finite; choose smaller scales")
            at = positions(number, flat.size, each)
            entry["largest"] = nine_digits(np.abs(flat).max())
            entry["at"] = at
            entry["values"] = [nine_digits(flat[i]) for i in at]
        entries.append(entry)
    return entries


def dtype_name(dtype, whose):
    for name, known in DTYPES.items():
        if known == np.dtype(dtype):
            return name
    raise ValueError(f"{whose} is of {np.dtype(dtype).name}: programs have arrays of {', '.join(DTYPES)}; cast it")


def nine_digits(value):
    """Enough digits for any f32; more would only be noise in a diff."""
    return float(f"{float(value):.9g}")


# The manifest


def manifest(program, artifact, text, flops, outputs):
    return {
        "format": 1,
        "name": program.name,
        "description": program.description,
        "program": f"{program.name}.vhlo",
        "sha256": hashlib.sha256(artifact).hexdigest(),
        "source_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "made_with": made_with(program.made_with),
        "precision": program.precision,
        "platforms": list(program.platforms),
        "flops": flops,
        "items": program.items,
        "item": program.item,
        "carry": program.carry,
        "seed": program.seed,
        "tolerance": TOLERANCE[program.precision],
        "inputs": [
            {"name": i.name, "dtype": i.dtype, "shape": list(i.shape), "fill": i.fill, "scale": i.scale}
            for i in program.inputs
        ],
        "outputs": outputs,
    }


def render(fields):
    """JSON with one field, one input or one output a line: small, and a diff shows which one changed."""
    lines = []
    for key, value in fields.items():
        if key in ("inputs", "outputs"):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f' "{key}": [\n{rows}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write(folder, fields, artifact):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / fields["program"]).write_bytes(artifact)
    (folder / f"{fields['name']}.json").write_text(render(fields))


def export(program, reference=True):
    """(manifest, artifact) of a program; without ``reference`` its outputs have no values, and nothing is run."""
    for spec in program.inputs:
        if spec.dtype not in DTYPES:
            raise ValueError(f"input {spec.name} is of {spec.dtype!r}: programs have arrays of {', '.join(DTYPES)}")
    if program.precision not in TOLERANCE:
        raise ValueError(f"precision {program.precision!r} has no tolerance: use {' or '.join(TOLERANCE)}")
    lowered = lower(program)
    if not isinstance(lowered.out_info, (tuple, list)):
        raise ValueError(f"{program.name} does not return a tuple of arrays: write `return (y,)` for one")
    artifact, text = serialize(lowered.compiler_ir("stablehlo"))
    for number in range(program.carry):
        spec, info = program.inputs[number], lowered.out_info[number]
        if (spec.shape, DTYPES[spec.dtype]) != (info.shape, info.dtype):
            raise ValueError(f"output {number} does not fit input {spec.name}, whose next value it should be")
        if f"tf.aliasing_output = {number} : i32" not in text:
            raise ValueError(f"input {spec.name} is not donated to output {number}")
    shapes = [(o.dtype, o.shape) for o in lowered.out_info]

    flops = values = None
    run = program.reference
    if "cpu" in program.platforms:
        compiled = lowered.compile()
        run = run or compiled
    else:
        specs = [jax.ShapeDtypeStruct(i.shape, DTYPES[i.dtype]) for i in program.inputs]
        compiled = run and run.lower(*specs).compile()
    if compiled:
        # Where nothing is computed nothing is counted.
        flops = round(compiled.cost_analysis().get("flops", 0)) or None
    if reference and run:
        values = run(*generate_all(program.inputs, program.seed))
    outputs = describe_outputs(shapes, values)
    return manifest(program, artifact, text, flops, outputs), artifact
