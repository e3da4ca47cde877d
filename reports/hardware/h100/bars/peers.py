"""The same work in PyTorch, timed in three ways; one JSON object on standard output.

peers.py rates    what regrade is held against: cold (second-level cache flushed before each call), rested (a pause before each call,
                  so that the power limit does not show), and triton.testing.do_bench after two seconds of rest
peers.py naive    what people write: ten warm-ups, forty calls between events, nothing else; one process a number
"""

import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

torch.manual_seed(0)
GPU = "cuda"


def normal(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device=GPU, dtype=dtype)


def attention(batch, seq, backend):
    q, k, v = (normal(batch, 16, seq, 128) for _ in range(3))

    def call():
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)

    return call


def rates():
    a, b = normal(8192, 8192), normal(8192, 8192)
    a8, b8 = a.to(torch.float8_e4m3fn), b.t().contiguous().to(torch.float8_e4m3fn).t()
    one = torch.ones((), device=GPU)
    source = torch.empty(1 << 30, dtype=torch.uint8, device=GPU).random_()
    target = torch.empty_like(source)
    x = normal(16384, 8192)
    gamma, beta = normal(8192), normal(8192)
    works = {
        "gemm/precision=bf16": lambda: a @ b,
        "gemm/precision=fp8-e4m3": lambda: torch._scaled_mm(a8, b8, one, one, out_dtype=torch.bfloat16),
        "copy": lambda: target.copy_(source),
        "softmax": lambda: F.softmax(x, dim=-1),
        "layernorm": lambda: F.layer_norm(x, (8192,), gamma, beta),
    }
    for batch, seq in [(4, 4096), (1, 16384)]:
        for backend in [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]:
            works[f"attention/batch={batch}/seq={seq} {backend.name.lower()}"] = attention(batch, seq, backend)
    return works


def training_step():
    batch, seq, width, heads = 4, 1024, 1024, 16
    block = torch.nn.ModuleDict(
        {
            "norm1": torch.nn.LayerNorm(width),
            "qkv": torch.nn.Linear(width, 3 * width),
            "out": torch.nn.Linear(width, width),
            "norm2": torch.nn.LayerNorm(width),
            "up": torch.nn.Linear(width, 4 * width),
            "down": torch.nn.Linear(4 * width, width),
        }
    ).to(GPU, torch.bfloat16)
    optimizer = torch.optim.AdamW(block.parameters(), lr=1e-6, fused=True)
    x, slope = normal(batch, seq, width).requires_grad_(), normal(batch, seq, width)

    def call():
        optimizer.zero_grad(set_to_none=True)
        q, k, v = block["qkv"](block["norm1"](x)).view(batch, seq, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, seq, width)
        y = x + block["out"](o)
        z = y + block["down"](F.gelu(block["up"](block["norm2"](y)), approximate="tanh"))
        z.backward(slope)
        optimizer.step()

    return call


def naive_works():
    a, b = normal(8192, 4096), normal(4096, 4096)
    source = torch.empty(1 << 28, dtype=torch.uint8, device=GPU).random_()
    target = torch.empty_like(source)
    x, gamma, beta = normal(8192, 8192), normal(8192), normal(8192)
    q, k, v = (normal(4, 16, 2048, 128) for _ in range(3))
    small, other = source[:4096], target[:4096]

    def tiny():
        for _ in range(100):
            other.copy_(small)

    return {
        "gemm": lambda: a @ b,
        "attention": lambda: F.scaled_dot_product_attention(q, k, v),
        "copy": lambda: target.copy_(source),
        "layernorm": lambda: F.layer_norm(x, (8192,), gamma, beta),
        "training-step": training_step(),
        "tiny": tiny,
    }


def events(call, count, before=lambda: None):
    """Seconds of each call."""
    times = []
    for _ in range(count):
        before()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return times


def main():
    if sys.argv[1] == "naive":
        found = {}
        for name, call in naive_works().items():
            events(call, 10)
            found[name] = statistics.median(events(call, 40))
    else:
        from triton.testing import do_bench

        flush = torch.empty(2 * 50 << 20, dtype=torch.uint8, device=GPU)
        found = {}
        for name, call in rates().items():
            once = statistics.median(events(call, 5))

            def before():
                time.sleep(min(16 * once, 0.1))
                flush.zero_()

            rested = statistics.median(events(call, 40, before))
            time.sleep(2)
            found[name] = {"rested_s": rested, "do_bench_s": do_bench(call, return_mode="median") / 1e3}
    json.dump(found, sys.stdout)


main()
