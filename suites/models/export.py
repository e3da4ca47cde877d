"""Writes the programs of zoo.py as portable artifacts (NAME.vhlo) with manifests (NAME.json).

    pip install -r suites/models/requirements.txt
    python3 suites/models/export.py                  # all of them
    python3 suites/models/export.py gpt2 resnet50    # some
    python3 suites/models/export.py --list
    python3 suites/models/export.py --check gpt2     # would it be the same again?

Needs no GPU. Reference values come from one run on this machine's CPU; GPT-2's training step takes 5 GB for it.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Programs are exported and run on the CPU, whatever else is in the machine.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(HERE))

import json  # noqa: E402

import program  # noqa: E402
import zoo  # noqa: E402

#: XLA counts operations after its optimizations, which may depend on the CPU: a few more or less are no other program.
FLOPS_TOLERANCE = 0.01


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs; all of them if none is named")
    parser.add_argument("--list", action="store_true", help="list programs, with parameters and the sizes of files")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where files go, or are for --check")
    parser.add_argument("--check", action="store_true", help="export again and fail where files differ")
    args = parser.parse_args()
    unknown = [n for n in args.names if n not in zoo.ZOO]
    if unknown:
        parser.error(f"no program is called {', '.join(unknown)}; there are {', '.join(zoo.ZOO)}")
    names = args.names or list(zoo.ZOO)
    if args.list:
        return show(names, args.out)
    if args.check:
        return check(names, args.out)
    for name in names:
        start = time.monotonic()
        fields, artifact = program.export(zoo.build(name))
        program.write(args.out, fields, artifact)
        print(f"{name}: {len(artifact)} bytes, {fields['flops']:.3g} operations, {time.monotonic() - start:.0f} s")
    return 0


def show(names, folder):
    print(f"{'name':18} {'elements':>9} {'inputs':>6} {'.vhlo':>7} {'.json':>7}  description")
    for name in names:
        p = zoo.build(name)
        sizes = [
            f"{path.stat().st_size / 1024:.0f} KB" if path.exists() else "-"
            for path in (folder / f"{name}.vhlo", folder / f"{name}.json")
        ]
        count = f"{p.parameters / 1e6:.1f} M"
        print(f"{name:18} {count:>9} {len(p.inputs):6} {sizes[0]:>7} {sizes[1]:>7}  {p.description}")
    return 0


def check(names, folder):
    """Whether an export today gives the files on disk. Reference values are not compared: they are of one machine."""
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            fields, artifact = program.export(zoo.build(name), reference=False)
            program.write(temporary, fields, artifact)
            problems = differences(folder, Path(temporary), name)
        for problem in problems:
            print(f"{name}: {problem}", file=sys.stderr)
        failed = failed or bool(problems)
        if not problems:
            print(f"{name}: the same")
    if failed:
        print(f"export them again with: python3 {sys.argv[0]} NAME...", file=sys.stderr)
    return 1 if failed else 0


def differences(old, new, name):
    try:
        before = json.loads((old / f"{name}.json").read_text())
        artifact = (old / f"{name}.vhlo").read_bytes()
    except (OSError, ValueError) as error:
        return [f"cannot be compared: {error}"]
    after = json.loads((new / f"{name}.json").read_text())
    found = []
    if artifact != (new / f"{name}.vhlo").read_bytes():
        found.append(f"{name}.vhlo differs from what is exported now")
    for fields in (before, after):
        for output in fields.get("outputs", []):
            for key in ("largest", "at", "values"):
                output.pop(key, None)
    a, b = before.get("flops"), after["flops"]
    if a and b and abs(a - b) <= FLOPS_TOLERANCE * b:
        before["flops"] = b
    for key in sorted({*before, *after}):
        a, b = before.get(key), after.get(key)
        if a != b:
            long = isinstance(a, list) or isinstance(b, list)
            found.append(f"{key} differs" if long else f"{key} is {a!r} in {name}.json, and {b!r} now")
    return found


if __name__ == "__main__":
    sys.exit(main())
