#!/usr/bin/env python3
"""CPU time of regrade's models against PyTorch's, one thread, alternating in one run.

`benches/peers/run.sh` makes the environment and calls this. Each round starts one fresh process for every (case, arm) in
a shuffled order, so that a machine that drifts hits both arms; an arm's value is the median over rounds of the process's
median CPU time an iteration, and the ratio is taken round by round. PyTorch gets the better of two allocator settings:
its own, and the one that regrade gives its workers.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

ALLOCATOR = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.top_pad=67108864"

# name: case of suites/cpu-models.toml, the bar on CPU time, model, mode, batch, tokens, iterations
CASES = {
    "bert-base": ("bert-base@cpu", 1.7, "bert-base", "inference", 1, 128, 12),
    "gpt2": ("gpt2-inference@cpu", 1.7, "gpt2", "inference", 1, 128, 12),
    "vit-b16": ("vit-b16@cpu", 1.7, "vit-b16", "inference", 1, 0, 12),
    "llama": ("llama@cpu", 1.7, "llama", "inference", 1, 128, 20),
    "resnet50": ("resnet50@cpu", 2.3, "resnet50", "inference", 1, 0, 20),
    "gpt2 training step": ("gpt2-training-step@cpu", 3.2, "gpt2", "training", 1, 64, 5),
}


def child(model, mode, batch, tokens, iterations):
    """Times one model in PyTorch; prints the median CPU seconds an iteration."""
    import torch
    import torchvision
    import transformers as tf

    torch.set_num_threads(1)
    torch.manual_seed(0)
    no_dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    if model == "bert-base":
        net, classes = tf.BertModel(tf.BertConfig(), add_pooling_layer=False), 30522
    elif model == "gpt2":
        net, classes = tf.GPT2LMHeadModel(tf.GPT2Config(**no_dropout)), 50257
    elif model == "llama":
        config = tf.LlamaConfig(vocab_size=32000, hidden_size=512, num_hidden_layers=8, num_attention_heads=8,
                                num_key_value_heads=4, intermediate_size=1376)
        net, classes = tf.LlamaForCausalLM(config), 32000
    elif model == "resnet50":
        net, classes = torchvision.models.resnet50(), 1000
    else:
        net, classes = torchvision.models.vit_b_16(), 1000
    x = torch.randint(0, classes, (batch, tokens)) if tokens else torch.randn(batch, 3, 224, 224)
    times = []
    if mode == "inference":
        net.eval()
        with torch.inference_mode():
            for _ in range(iterations):
                start = time.process_time()
                net(x)
                times.append(time.process_time() - start)
    else:
        net.train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4)
        target = torch.randint(0, classes, (batch * tokens,))
        for _ in range(iterations):
            start = time.process_time()
            loss = torch.nn.functional.cross_entropy(net(x).logits.reshape(-1, classes), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            times.append(time.process_time() - start)
    # The first iterations fill caches and pick kernels, as regrade's warm-up does.
    print(statistics.median(times[len(times) // 4:]))


def torch_seconds(name, keep_memory):
    _, _, model, mode, batch, tokens, iterations = CASES[name]
    environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    if keep_memory:
        environment["GLIBC_TUNABLES"] = ALLOCATOR
    arguments = [sys.executable, __file__, "--child", model, mode, str(batch), str(tokens), str(iterations)]
    return float(subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout)


def regrade_seconds(name, regrade):
    with tempfile.TemporaryDirectory() as folder:
        arguments = [regrade, "run", "suites/cpu-models.toml", "--filter", CASES[name][0], "--launches", "1", "--quiet",
                     "--format", "json", "--db", os.path.join(folder, "peers.sqlite")]
        view = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    case = next(case for case in view["cases"] if case["case"] == CASES[name][0])
    return next(metric["median"] for metric in case["metrics"] if metric["metric"]["name"] == "cpu_time")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=5)
    parser.add_argument("--regrade", default="target/release/regrade")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.child:
        model, mode, *numbers = options.child
        child(model, mode, *map(int, numbers))
        return
    arms = {
        "regrade": lambda name: regrade_seconds(name, options.regrade),
        "torch": lambda name: torch_seconds(name, False),
        "torch, memory kept": lambda name: torch_seconds(name, True),
    }
    seconds = {name: {arm: [] for arm in arms} for name in CASES}
    order = random.Random(0)
    for number in range(options.rounds):
        items = [(name, arm) for name in CASES for arm in arms]
        order.shuffle(items)
        for name, arm in items:
            seconds[name][arm].append(arms[arm](name))
            print(f"round {number + 1}: {name}, {arm}: {seconds[name][arm][-1] * 1e3:.1f} ms", file=sys.stderr)
    import torch

    print(f"PyTorch {torch.__version__}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"{options.rounds} rounds, 1 thread, {time.strftime('%Y-%m-%d')}\n")
    print("| model | regrade, CPU ms | PyTorch, CPU ms | ratio | rounds from, to | bar |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, (_, bar, *_) in CASES.items():
        ours = seconds[name]["regrade"]
        theirs = [min(pair) for pair in zip(seconds[name]["torch"], seconds[name]["torch, memory kept"])]
        ratios = [a / b for a, b in zip(ours, theirs)]
        print(f"| {name} | {statistics.median(ours) * 1e3:.1f} | {statistics.median(theirs) * 1e3:.1f} | "
              f"{statistics.median(ratios):.2f} | {min(ratios):.2f}, {max(ratios):.2f} | {bar} |")


if __name__ == "__main__":
    main()
