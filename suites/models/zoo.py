"""The programs: pure functions over flat lists of arrays, the weights among them.

Weights are random and come from a seed: time and memory do not depend on their values, and nothing needs to be
shipped. Scales are chosen so that activations stay near one and no output is zero but for rounding, so that a relative
error means something. GELU is the approximation by tanh throughout, which needs nothing but StableHLO.
"""

import contextlib
import math
from unittest import mock

import jax
import jax.numpy as jnp

from program import Input, Program


class Weights:
    """Collects inputs in order."""

    def __init__(self, dtype="f32"):
        self.dtype = dtype
        self.inputs = []

    def normal(self, name, *shape, scale=0.02):
        # Three digits, so that a manifest stays readable.
        self.inputs.append(Input(name, self.dtype, shape, "normal", float(f"{scale:.3g}")))

    def constant(self, name, *shape, value=1.0):
        self.inputs.append(Input(name, self.dtype, shape, "constant", value))

    def linear(self, name, rows, columns, scale=0.02):
        self.normal(f"{name}.weight", rows, columns, scale=scale)
        self.normal(f"{name}.bias", columns)

    def norm(self, name, width):
        self.constant(f"{name}.weight", width)
        self.normal(f"{name}.bias", width)

    def block(self, name, width):
        """A transformer's layer: attention and a feed-forward part of four times the width."""
        self.norm(f"{name}.ln1", width)
        self.linear(f"{name}.qkv", width, 3 * width)
        self.linear(f"{name}.out", width, width)
        self.norm(f"{name}.ln2", width)
        self.linear(f"{name}.up", width, 4 * width)
        self.linear(f"{name}.down", 4 * width, width)


def tokens(batch, length, vocabulary, name="tokens"):
    return Input(name, "i32", (batch, length), "index", vocabulary)


def wide(dtype):
    """At least f32: where bf16 would lose too much. f64 stays f64, so that a program can be evaluated in it."""
    return jnp.promote_types(dtype, jnp.float32)


# Parts


def linear(p, name, x):
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def layer_norm(p, name, x, epsilon):
    y = x.astype(wide(x.dtype))
    y = y - y.mean(-1, keepdims=True)
    y = (y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + epsilon)).astype(x.dtype)
    return y * p[f"{name}.weight"] + p[f"{name}.bias"]


def rms_norm(x, weight, epsilon=1e-5):
    y = x.astype(wide(x.dtype))
    return (y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + epsilon)).astype(x.dtype) * weight


def causal(length):
    row = jax.lax.broadcasted_iota(jnp.int32, (length, length), 0)
    column = jax.lax.broadcasted_iota(jnp.int32, (length, length), 1)
    return row >= column


def attend(q, k, v, mask=None):
    """Attention that writes its scores to memory. Arrays are batch x length x heads x width of a head; several heads
    of ``q`` may share one of ``k`` and ``v``."""
    batch, length, heads, width = q.shape
    groups = k.shape[2]
    # The heads that share a key become more rows of one matrix, so that no key is copied.
    q = q.reshape(batch, length, groups, -1, width).transpose(0, 2, 3, 1, 4).reshape(batch, groups, -1, width)
    k, v = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)
    scores = jnp.matmul(q, k, preferred_element_type=wide(q.dtype)) / math.sqrt(width)
    if mask is not None:
        scores = jnp.where(jnp.tile(mask, (heads // groups, 1)), scores, -1e9)
    y = jax.nn.softmax(scores, -1).astype(v.dtype) @ v
    return y.reshape(batch, heads, length, width).transpose(0, 2, 1, 3)


def self_attention(p, name, x, heads, mask):
    batch, length, width = x.shape
    q, k, v = (t.reshape(batch, length, heads, -1) for t in jnp.split(linear(p, f"{name}.qkv", x), 3, -1))
    return linear(p, f"{name}.out", attend(q, k, v, mask).reshape(batch, length, width))


def feed_forward(p, name, x):
    return linear(p, f"{name}.down", jax.nn.gelu(linear(p, f"{name}.up", x), approximate=True))


def pre_norm_block(p, name, x, heads, mask, epsilon):
    x = x + self_attention(p, name, layer_norm(p, f"{name}.ln1", x, epsilon), heads, mask)
    return x + feed_forward(p, name, layer_norm(p, f"{name}.ln2", x, epsilon))


def rows(table, index):
    return jnp.take(table, index, axis=0, mode="clip")


def cross_entropy(logits, labels):
    logs = jax.nn.log_softmax(logits.astype(wide(logits.dtype)), -1)
    return -jnp.take_along_axis(logs, labels[..., None], -1, mode="clip").mean()


# Whole programs


def inference(weights, data, forward):
    """(function, inputs) of ``forward(weights by name, data...)``."""
    names = [i.name for i in weights.inputs]

    def function(*arrays):
        result = forward(dict(zip(names, arrays)), *arrays[len(names) :])
        return result if isinstance(result, tuple) else (result,)

    return function, [*weights.inputs, *data]


def training(weights, data, loss):
    """(function, inputs, carry) of a step with AdamW: weights, both moments and the step's number are carried.

    The moments start as in the middle of a training. From zeros, the first update is the sign of the gradient, and
    gradients that are zero but for rounding (those of the keys' biases) would make the results random.
    """
    names = [i.name for i in weights.inputs]
    first = [Input(f"m.{i.name}", i.dtype, i.shape, "normal", 1e-4) for i in weights.inputs]
    second = [Input(f"v.{i.name}", i.dtype, i.shape, "constant", 1e-6) for i in weights.inputs]
    state = [*weights.inputs, *first, *second, Input("step", "f32", (), "constant", 1000.0)]
    n = len(names)
    rate, decay, beta1, beta2, epsilon = 3e-4, 0.01, 0.9, 0.999, 1e-8

    def function(*arrays):
        w, m, v = (arrays[i * n : (i + 1) * n] for i in range(3))
        step = arrays[3 * n] + 1.0

        def loss_of(w):
            return loss(dict(zip(names, w)), *arrays[3 * n + 1 :])

        value, gradients = jax.value_and_grad(loss_of)(w)
        m = [beta1 * a + (1 - beta1) * g for a, g in zip(m, gradients)]
        v = [beta2 * a + (1 - beta2) * g * g for a, g in zip(v, gradients)]
        m_scale, v_scale = 1 / (1 - beta1**step), 1 / (1 - beta2**step)
        # Gains and biases do not decay, as is usual.
        w = [
            x - rate * (a * m_scale / (jnp.sqrt(b * v_scale) + epsilon) + (decay * x if x.ndim > 1 else 0.0))
            for x, a, b in zip(w, m, v)
        ]
        return (*w, *m, *v, step, value)

    return function, [*state, *data], len(state)


def mlp_train(name):
    sizes, batch = (256, 1024, 1024, 16), 32
    weights = Weights()
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        weights.linear(f"layer{i}", a, b, scale=math.sqrt(2 / a))

    def loss(p, x, labels):
        for i in range(3):
            x = linear(p, f"layer{i}", x)
            x = jax.nn.relu(x) if i < 2 else x
        return cross_entropy(x, labels)

    data = [
        Input("x", "f32", (batch, sizes[0]), "normal", 1.0),
        Input("labels", "i32", (batch,), "index", sizes[-1]),
    ]
    function, inputs, carry = training(weights, data, loss)
    text = f"Three-layer perceptron 256-1024-1024-16, training step with AdamW, batch {batch}, f32"
    return Program(name, text, function, inputs, batch, "samples", carry=carry)


def attention(name, batch, heads, length, width, dtype, fused=False):
    shape = (batch, length, heads, width)
    inputs = [Input(n, dtype, shape, "normal", 1.0) for n in "qkv"]
    how = "fused by cuDNN" if fused else "with its scores in memory"
    text = f"Attention {how}, batch {batch}, {heads} heads of {width}, {length} tokens, {dtype}"

    def naive(q, k, v):
        return (attend(q, k, v),)

    def cudnn(q, k, v):
        return (jax.nn.dot_product_attention(q, k, v, implementation="cudnn"),)

    if not fused:
        return Program(name, text, naive, inputs, batch * length, "tokens", precision=dtype)
    return Program(
        name,
        text,
        cudnn,
        inputs,
        batch * length,
        "tokens",
        precision=dtype,
        platforms=("cuda",),
        reference=jax.jit(naive),
        lowering=pretend_cudnn,
    )


@contextlib.contextmanager
def pretend_cudnn():
    """JAX asks the machine for cuDNN's version and the GPU's kind while it traces. Here neither need be present: say
    what the program is for, a Hopper with cuDNN 9.10 or newer."""
    from jax._src.cudnn import fused_attention_stablehlo as fused

    version = mock.patch.object(fused, "check_cudnn_version", lambda: 91000)
    kind = mock.patch.object(
        fused, "check_compute_capability", lambda least: tuple(map(int, least.split("."))) <= (9, 0)
    )
    with version, kind:
        yield


def gpt2_weights(layers, width, vocabulary, dtype="f32"):
    weights = Weights(dtype)
    weights.normal("wte", vocabulary, width)
    weights.normal("wpe", 1024, width)
    for i in range(layers):
        weights.block(f"h{i}", width)
    weights.norm("ln_f", width)
    return weights


def gpt2_forward(p, ids, layers, heads):
    length = ids.shape[1]
    x = rows(p["wte"], ids) + p["wpe"][:length]
    mask = causal(length)
    for i in range(layers):
        x = pre_norm_block(p, f"h{i}", x, heads, mask, 1e-5)
    return layer_norm(p, "ln_f", x, 1e-5) @ p["wte"].T


def gpt2(name, length, dtype="f32"):
    weights = gpt2_weights(12, 768, 50257, dtype)

    def forward(p, ids):
        return gpt2_forward(p, ids, 12, 12)

    function, inputs = inference(weights, [tokens(1, length, 50257)], forward)
    text = f"GPT-2 small, forward, batch 1 x {length} tokens, {dtype}"
    return Program(name, text, function, inputs, length, "tokens", precision=dtype)


def language_train(name, what, layers, width, heads, vocabulary, batch, length):
    weights = gpt2_weights(layers, width, vocabulary)

    def loss(p, ids):
        return cross_entropy(gpt2_forward(p, ids[:, :-1], layers, heads), ids[:, 1:])

    function, inputs, carry = training(weights, [tokens(batch, length + 1, vocabulary)], loss)
    text = f"{what}, training step with AdamW, batch {batch} x {length} tokens, f32"
    return Program(name, text, function, inputs, batch * length, "tokens", carry=carry)


def bert_base(name, length):
    layers, width, heads, vocabulary = 12, 768, 12, 30522
    weights = Weights()
    weights.normal("word", vocabulary, width)
    weights.normal("position", 512, width)
    weights.normal("type", 2, width)
    weights.norm("ln", width)
    for i in range(layers):
        weights.block(f"h{i}", width)
    weights.linear("pooler", width, width)

    def forward(p, ids, types):
        x = rows(p["word"], ids) + p["position"][:length] + rows(p["type"], types)
        x = layer_norm(p, "ln", x, 1e-12)
        for i in range(layers):
            x = layer_norm(p, f"h{i}.ln1", x + self_attention(p, f"h{i}", x, heads, None), 1e-12)
            x = layer_norm(p, f"h{i}.ln2", x + feed_forward(p, f"h{i}", x), 1e-12)
        return x, jnp.tanh(linear(p, "pooler", x[:, 0]))

    data = [tokens(1, length, vocabulary), tokens(1, length, 2, "types")]
    function, inputs = inference(weights, data, forward)
    text = f"BERT base, forward with pooler, batch 1 x {length} tokens, f32"
    return Program(name, text, function, inputs, length, "tokens")


def resnet50(name, batch):
    weights = Weights()

    def convolution(name, size, into, out, gain=1.0):
        weights.normal(f"{name}.weight", size, size, into, out, scale=math.sqrt(2 / (size * size * into)))
        weights.constant(f"{name}.gain", out, value=gain)
        weights.normal(f"{name}.bias", out, scale=0.1)
        weights.normal(f"{name}.mean", out, scale=0.1)
        weights.constant(f"{name}.variance", out)

    blocks, into = [], 64
    convolution("stem", 7, 3, 64)
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3))):
        for i in range(count):
            block = f"stage{stage}.{i}"
            convolution(f"{block}.a", 1, into, width)
            convolution(f"{block}.b", 3, width, width)
            # A small gain at the end of each residual branch, or sixteen blocks double the variance sixteen times.
            convolution(f"{block}.c", 1, width, 4 * width, gain=0.25)
            if i == 0:
                convolution(f"{block}.shortcut", 1, into, 4 * width)
            blocks.append((block, 2 if stage > 0 and i == 0 else 1, i == 0))
            into = 4 * width
    weights.linear("head", 2048, 1000)

    def apply(p, name, x, stride=1):
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, p[f"{name}.weight"], (stride, stride), "SAME", dimension_numbers=dimensions)
        scale = jax.lax.rsqrt(p[f"{name}.variance"] + 1e-5) * p[f"{name}.gain"]
        return (y - p[f"{name}.mean"]) * scale + p[f"{name}.bias"]

    def forward(p, x):
        x = jax.nn.relu(apply(p, "stem", x, 2))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for block, stride, shortcut in blocks:
            y = jax.nn.relu(apply(p, f"{block}.a", x))
            y = jax.nn.relu(apply(p, f"{block}.b", y, stride))
            y = apply(p, f"{block}.c", y)
            x = jax.nn.relu(y + (apply(p, f"{block}.shortcut", x, stride) if shortcut else x))
        return linear(p, "head", x.mean((1, 2)))

    image = Input("image", "f32", (batch, 224, 224, 3), "normal", 1.0)
    function, inputs = inference(weights, [image], forward)
    text = f"ResNet-50, forward, batch {batch}, 224 x 224, f32"
    return Program(name, text, function, inputs, batch, "images")


def vit_b16(name):
    layers, width, heads, batch, patch = 12, 768, 12, 1, 16
    count = (224 // patch) ** 2
    weights = Weights()
    weights.normal("patch.weight", patch, patch, 3, width, scale=1 / math.sqrt(3 * patch * patch))
    weights.normal("patch.bias", width)
    weights.normal("class", width)
    weights.normal("position", count + 1, width)
    for i in range(layers):
        weights.block(f"h{i}", width)
    weights.norm("ln_f", width)
    weights.linear("head", width, 1000)

    def forward(p, image):
        x = jax.lax.conv_general_dilated(
            image, p["patch.weight"], (patch, patch), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x.reshape(batch, count, width) + p["patch.bias"]
        first = jnp.broadcast_to(p["class"], (batch, 1, width))
        x = jnp.concatenate([first, x], 1) + p["position"]
        for i in range(layers):
            x = pre_norm_block(p, f"h{i}", x, heads, None, 1e-6)
        return linear(p, "head", layer_norm(p, "ln_f", x, 1e-6)[:, 0])

    image = Input("image", "f32", (batch, 224, 224, 3), "normal", 1.0)
    function, inputs = inference(weights, [image], forward)
    text = f"Vision transformer B/16, forward, batch {batch}, 224 x 224, f32"
    return Program(name, text, function, inputs, batch, "images")


def llama_block(name):
    width, heads, groups, hidden, length = 2048, 32, 4, 5632, 512
    size = width // heads
    weights = Weights("bf16")
    weights.constant("norm1", width)
    weights.normal("q", width, heads * size)
    weights.normal("k", width, groups * size)
    weights.normal("v", width, groups * size)
    weights.normal("o", heads * size, width)
    weights.constant("norm2", width)
    weights.normal("gate", width, hidden)
    weights.normal("up", width, hidden)
    weights.normal("down", hidden, width)

    def rotate(x):
        """Rotary positions; the tables are computed in the program, which is smaller than to hold them."""
        kind = wide(x.dtype)
        frequency = 10000.0 ** (-jnp.arange(0, size, 2, dtype=kind) / size)
        angle = (jnp.arange(length, dtype=kind)[:, None] * frequency)[:, None, :]
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        a, b = jnp.split(x.astype(kind), 2, -1)
        return jnp.concatenate([a * cosine - b * sine, b * cosine + a * sine], -1).astype(x.dtype)

    def forward(p, x):
        y = rms_norm(x, p["norm1"])
        q, k, v = ((y @ p[n]).reshape(1, length, -1, size) for n in "qkv")
        x = x + attend(rotate(q), rotate(k), v, causal(length)).reshape(1, length, -1) @ p["o"]
        y = rms_norm(x, p["norm2"])
        return x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"]

    function, inputs = inference(weights, [Input("x", "bf16", (1, length, width), "normal", 1.0)], forward)
    text = (
        f"A layer of Llama ({width} wide, {heads} heads, {groups} for keys), forward, batch 1 x {length} tokens, bf16"
    )
    return Program(name, text, function, inputs, length, "tokens", precision="bf16")


#: name -> what builds the program, given its name.
ZOO = {
    "mlp-train": mlp_train,
    "attention": lambda name: attention(name, 1, 12, 512, 64, "f32"),
    "attention-bf16": lambda name: attention(name, 4, 16, 2048, 128, "bf16"),
    "attention-fused": lambda name: attention(name, 4, 16, 2048, 128, "bf16", fused=True),
    "transformer-train": lambda name: language_train(
        name, "Transformer of 4 layers, 256 wide", 4, 256, 8, 8192, 8, 128
    ),
    "gpt2": lambda name: gpt2(name, 128),
    "gpt2-bf16": lambda name: gpt2(name, 128, "bf16"),
    "gpt2-s512": lambda name: gpt2(name, 512),
    "gpt2-train": lambda name: language_train(name, "GPT-2 small", 12, 768, 12, 50257, 4, 128),
    "bert-base": lambda name: bert_base(name, 128),
    "bert-base-s512": lambda name: bert_base(name, 512),
    "resnet50": lambda name: resnet50(name, 1),
    "resnet50-b8": lambda name: resnet50(name, 8),
    "vit-b16": vit_b16,
    "llama-block": llama_block,
}


def build(name):
    return ZOO[name](name)
