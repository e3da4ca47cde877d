"""Steps of the programs of suites/models in JAX itself, timed as regrade times its own: blocks of steps, one behind the other, and then a
wait. One JSON object on standard output: program -> seconds of wall and of process CPU time a step (medians of blocks), and the first
values of the last result.

    JAX_PLATFORMS=cpu NPROC=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python3 benches/peers/xla.py mlp-train gpt2
"""

import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "suites" / "models"))

import jax  # noqa: E402
import program as programs  # noqa: E402
import zoo  # noqa: E402

BLOCK_S = 0.25
BLOCKS = 12
MOST_S = 20.0


def measure(name):
    p = zoo.build(name)
    start = time.perf_counter()
    inputs = [jax.device_put(value) for value in programs.generate_all(p.inputs, p.seed)]
    # As the exported programs have it: "f32" means f32.
    with jax.default_matmul_precision("highest" if p.precision == "f32" else "default"):
        jit = jax.jit(p.function, donate_argnums=tuple(range(p.carry)), keep_unused=True)
        compiled = jit.lower(*inputs).compile()
    compile_s = time.perf_counter() - start

    def steps(count):
        nonlocal inputs
        for _ in range(count):
            results = compiled(*inputs)
            inputs = [*results[: p.carry], *inputs[p.carry :]]
        jax.block_until_ready(results)
        return results

    steps(1)
    start = time.perf_counter()
    steps(2)
    count = max(1, round(BLOCK_S / ((time.perf_counter() - start) / 2)))
    steps(count)
    wall, cpu, begun = [], [], time.perf_counter()
    while len(wall) < 3 or (len(wall) < BLOCKS and time.perf_counter() - begun < MOST_S):
        start, used = time.perf_counter(), time.process_time()
        steps(count)
        wall.append((time.perf_counter() - start) / count)
        cpu.append((time.process_time() - used) / count)
    return {
        "wall_s": statistics.median(wall),
        "cpu_s": statistics.median(cpu),
        "blocks": len(wall),
        "steps": count,
        "load_s": compile_s,
    }


def main():
    device = jax.devices()[0]
    found = {"jax": jax.__version__, "device": device.device_kind}
    for name in sys.argv[1:]:
        found[name] = measure(name)
    json.dump(found, sys.stdout)
    print()


main()
