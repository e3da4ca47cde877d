"""Golden values of the tiny models, from the reference implementations in PyTorch.

Writes models.json beside this file. Weights, inputs and targets follow formulas that the Rust test computes too, so
no weights are stored. Run it in a throw-away environment:

    pip install torch torchvision "transformers<5"
    python tests/golden/models.py
"""

import json
import math
import pathlib

import torch
import torchvision
from torchvision.models.resnet import Bottleneck
from transformers import (BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          ViTConfig, ViTForImageClassification)

BATCH, SEQ, TOKENS = 2, 12, 1024
torch.set_default_dtype(torch.float64)


def weight(name, count, centre):
    """centre + 0.05 sin(0.37 i + 0.0011 i² + c): the square keeps matrices from having rank two."""
    c = float(sum(name.encode()) % 97)
    i = torch.arange(count, dtype=torch.float64)
    return (centre + 0.05 * torch.sin(0.37 * i + 0.0011 * i * i + c)).to(torch.float32).to(torch.float64)


class ResNetTiny(torchvision.models.ResNet):
    """torchvision's network with a stem of 16 channels and one block a stage."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = torch.nn.BatchNorm2d, 16, 1, 1, 64
        self.conv1 = torch.nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        self.relu = torch.nn.ReLU()
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._make_layer(Bottleneck, 16, 1)
        self.layer2 = self._make_layer(Bottleneck, 32, 1, stride=2)
        self.layer3 = self._make_layer(Bottleneck, 64, 1, stride=2)
        self.layer4 = self._make_layer(Bottleneck, 128, 1, stride=2)
        self.avgpool = torch.nn.AdaptiveAvgPool2d(1)
        self.fc = torch.nn.Linear(512, 10)


def networks():
    bert = BertConfig(vocab_size=TOKENS, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
                      intermediate_size=512, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    gpt2 = GPT2Config(vocab_size=TOKENS, n_embd=128, n_layer=2, n_head=2, n_inner=512, resid_pdrop=0, embd_pdrop=0,
                      attn_pdrop=0)
    llama = LlamaConfig(vocab_size=TOKENS, hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
                        num_key_value_heads=2, intermediate_size=352, rms_norm_eps=1e-5, tie_word_embeddings=False)
    vit = ViTConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512, image_size=32,
                    patch_size=8, num_labels=10, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    yield "bert-tiny", BertForMaskedLM(bert), None
    yield "gpt2-tiny", GPT2LMHeadModel(gpt2), None
    yield "llama-tiny", LlamaForCausalLM(llama), None
    yield "resnet-tiny", ResNetTiny(), 64
    yield "vit-tiny", ViTForImageClassification(vit), 32


def fill(network):
    """Sets every parameter and statistic; scales and variances of norms lie about 1."""
    for module_name, module in network.named_modules():
        norm = "Norm" in type(module).__name__
        own = list(module.named_parameters(recurse=False)) + list(module.named_buffers(recurse=False))
        for name, tensor in own:
            if tensor.dtype != torch.float64 or name == "inv_freq":
                continue
            full = f"{module_name}.{name}" if module_name else name
            full = full.removeprefix("transformer.")
            # Tied to the word embedding, which is filled under its own name.
            if full in ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias"):
                continue
            if full == "lm_head.weight" and isinstance(network, GPT2LMHeadModel):
                continue
            centre = 1.0 if (norm and name == "weight") or name == "running_var" else 0.0
            tensor.data = weight(full, tensor.numel(), centre).reshape(tensor.shape)
    if isinstance(network, (BertForMaskedLM, GPT2LMHeadModel)):
        network.tie_weights()


def golden(network, edge):
    if edge is None:
        inputs = ((torch.arange(BATCH * SEQ) * 37 + 11) % TOKENS).reshape(BATCH, SEQ)
        targets = (torch.arange(BATCH * SEQ) * 53 + 5) % TOKENS
    else:
        i = torch.arange(BATCH * 3 * edge * edge, dtype=torch.float64)
        inputs = torch.sin(0.11 * i + 0.0007 * i * i).to(torch.float32).to(torch.float64).reshape(BATCH, 3, edge, edge)
        targets = (torch.arange(BATCH) * 3 + 1) % 10

    def scores():
        out = network(inputs)
        return (out if isinstance(out, torch.Tensor) else out.logits).flatten(0, -2)

    network.eval()
    with torch.no_grad():
        output = network.bert(inputs).last_hidden_state if isinstance(network, BertForMaskedLM) else scores()
    network.train()
    loss = torch.nn.functional.cross_entropy(scores(), targets)
    loss.backward()
    flat = output.flatten()
    gradients = {name.removeprefix("transformer."): p.grad.norm().item() for name, p in network.named_parameters()
                 if p.grad is not None}
    return {
        "output_norm": flat.norm().item(),
        "output_every": max(1, flat.numel() // 40),
        "output": flat[:: max(1, flat.numel() // 40)].tolist(),
        "loss": loss.item(),
        "gradient_norms": gradients,
    }


result = {}
for name, network, edge in networks():
    network = network.double()
    fill(network)
    result[name] = golden(network, edge)
    assert math.isfinite(result[name]["loss"])
path = pathlib.Path(__file__).with_name("models.json")
path.write_text(json.dumps(result, indent=1) + "\n")
