"""A ``torch.nn.Module`` as a portable artifact with a manifest, in the format of export.py; for inference.

    from from_torch import export_module
    from program import Input

    model = MyModel()
    tokens = Input("tokens", "i32", (1, 128), "index", 50257)      # one for each argument of forward, in order
    export_module(model, [tokens], name="my-model", description="My model, forward, batch 1 x 128 tokens, f32",
                  items=128, item="tokens", out="suites/models")

writes ``my-model.vhlo`` and ``my-model.json``. ``python3 suites/models/from_torch.py DIR`` exports a small example.

The way is torch.export, then torchax, which knows PyTorch's operators in JAX, then StableHLO. No weights are shipped:
every parameter is drawn again, with the deviation that it has in the module (or is constant, where all its values are
the same), and the module itself is **overwritten** with what was drawn. Then PyTorch computes the reference values on
the CPU, so that a mistake on the way would show. Buffers whose values are all the same (those of a fresh batch norm)
become inputs; other buffers (tables, masks) stay in the program as they are. A module in bf16 gives a program in bf16.

Training steps, dynamic shapes and operators that torchax does not know cannot be exported. Arguments are f32, bf16 or
i32: give indices as i32.

Tried with Python 3.11, torch 2.12.1, torchax 0.0.13 and what requirements.txt says:
``pip install -r suites/models/requirements.txt torch==2.12.1 torchax==0.0.13``
"""

import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).resolve().parent))

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchax  # noqa: E402
import torchax.export  # noqa: E402

import program  # noqa: E402
from program import Input, Program  # noqa: E402

#: Bytes of buffers that may be part of a program.
LARGEST_TABLES = 1 << 20
DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def export_module(module, arguments, *, name, description, items, item, out, fills=None, seed=1):
    """Write ``name``.vhlo and ``name``.json into the folder ``out``; returns the manifest.

    ``arguments`` are an :class:`Input` for each argument of ``forward``. ``items`` is how many of ``item`` (images,
    tokens, samples) one run handles. ``fills`` maps names of parameters to a (fill, scale) of your own.
    """
    # Training would drop values at random and change the buffers.
    module.eval()
    weights = [as_input(n, t, fills or {}) for n, t in named_tensors(module)]
    weights = [i for i in weights if i is not None]
    inputs = [*weights, *arguments]
    tensors = [to_tensor(a) for a in program.generate_all(inputs, seed)]
    held = dict(named_tensors(module))
    with torch.no_grad():
        for spec, tensor in zip(weights, tensors):
            held[spec.name].copy_(tensor)

    exported = torch.export.export(module, tuple(tensors[len(weights) :]))
    if exported.graph_signature.buffers_to_mutate:
        changed = ", ".join(exported.graph_signature.buffers_to_mutate.values())
        raise ValueError(f"forward changes {changed}: it is no pure function")
    # Registers the operators.
    torchax.default_env()
    _, states, run = torchax.export.exported_program_to_jax(exported, export_raw=True)
    # By address and not by name: a weight that is used in two places has two names. Constants that forward makes
    # itself have none; they follow the parameters and buffers.
    numbers = {held[spec.name].data_ptr(): number for number, spec in enumerate(weights)}
    sources = [numbers.get(t.data_ptr()) for t in states]
    fixed = [None if k is not None else to_array(t) for k, t in zip(sources, states)]
    size = sum(a.nbytes for a in fixed if a is not None)
    if size > LARGEST_TABLES:
        raise ValueError(f"{size} bytes of tables and masks would be part of the program; compute them in forward")

    def function(*arrays):
        state = [arrays[k] if k is not None else f for k, f in zip(sources, fixed)]
        return tuple(jax.tree.leaves(run(state, arrays[len(weights) :])))

    def reference(*arrays):
        with torch.no_grad():
            outputs = module(*(to_tensor(a) for a in arrays[len(weights) :]))
        return [to_array(t) for t in torch.utils._pytree.tree_leaves(outputs)]

    used = {i.dtype for i in inputs}
    made = Program(
        name,
        description,
        function,
        inputs,
        items,
        item,
        precision="bf16" if "bf16" in used else "f32",
        seed=seed,
        reference=reference,
        made_with=(f"torch {torch.__version__.split('+')[0]}", f"torchax {torchax.__version__}"),
    )
    fields, artifact = program.export(made)
    program.write(out, fields, artifact)
    return fields


def named_tensors(module):
    yield from module.named_parameters()
    yield from module.named_buffers()


def as_input(name, tensor, fills):
    """How a parameter or buffer is filled; None if it stays in the program."""
    if tensor.dtype not in DTYPES:
        if isinstance(tensor, torch.nn.Parameter):
            raise ValueError(f"parameter {name} is of {tensor.dtype}; f32 and bf16 can be exported")
        return None
    values = tensor.detach().float()
    same = bool((values == values.flatten()[0]).all())
    if name in fills:
        fill, scale = fills[name]
    elif same:
        fill, scale = "constant", values.flatten()[0].item()
    elif isinstance(tensor, torch.nn.Parameter):
        fill, scale = "normal", float(f"{values.std().item():.3g}")
    else:
        return None
    return Input(name, DTYPES[tensor.dtype], tuple(tensor.shape), fill, scale)


def to_tensor(array):
    if array.dtype == program.DTYPES["bf16"]:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(array))


def to_array(tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.float().numpy().astype(program.DTYPES["bf16"])
    return tensor.numpy()


def example(out):
    """A network with the usual parts: embedding, attention, exact GELU, convolution, batch norm, a table."""
    nn = torch.nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(1000, 64)
            self.register_buffer("table", torch.linspace(-1, 1, 32)[:, None])
            self.layer = nn.TransformerEncoderLayer(64, 4, 256, activation="gelu", batch_first=True, norm_first=True)
            self.convolution = nn.Conv1d(64, 32, 3, padding=1)
            self.norm = nn.BatchNorm1d(32)
            self.head = nn.Linear(32, 10)

        def forward(self, tokens):
            x = self.layer(self.embedding(tokens) + self.table)
            y = torch.relu(self.norm(self.convolution(x.transpose(1, 2))))
            return self.head(y.mean(-1)), x

    torch.manual_seed(0)
    tokens = Input("tokens", "i32", (2, 32), "index", 1000)
    text = "Small network from PyTorch, forward, batch 2 x 32 tokens, f32"
    return export_module(Small(), [tokens], name="torch-small", description=text, items=64, item="tokens", out=out)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: from_torch.py DIR (exports a small example; for your own modules import export_module)")
    print(f"{example(sys.argv[1])['name']} is in {sys.argv[1]}")
