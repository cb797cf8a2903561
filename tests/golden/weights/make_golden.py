"""Writes rows.txt: weights of the real models as other programs read them.

GGUF files go through transformers (which undoes GGUF's Q/K permutation
itself), the encoder's folder through safetensors. Each line is

    file  tensor  row  column:value ...

with tensors named GGUF's way and values as hexadecimal floats, so that the
test compares bits. A vector's row is 0.

    CONCLAVE_MODELS=... python make_golden.py > rows.txt
"""

import os
import random
import sys

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

MODELS = os.environ.get(
    "CONCLAVE_MODELS", os.path.expanduser("~/.cache/conclave/models"))

DECODER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
BERT = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def translate(name, table, layers):
    stem, kind = name.rsplit(".", 1)
    prefix = ""
    if stem.startswith(layers):
        layer, stem = stem[len(layers):].split(".", 1)
        prefix = f"blk.{layer}."
    return prefix + table[stem] + "." + kind if stem in table else None


def write(file, tensors, rng):
    for name in sorted(tensors):
        tensor = tensors[name].float()
        tensor = tensor.reshape(1, -1) if tensor.ndim == 1 else tensor
        rows, cols = tensor.shape
        # Q and K get more rows: they are the permuted ones.
        count = 6 if "attn_q.w" in name or "attn_k.w" in name else 2
        for row in sorted(rng.sample(range(rows), min(count, rows))):
            picked = sorted(rng.sample(range(cols), min(5, cols)))
            cells = [f"{c}:{tensor[row, c].item().hex()}" for c in picked]
            print(file, name, row, *cells)


def gguf(file, layers, rng):
    model = AutoModelForCausalLM.from_pretrained(
        MODELS, gguf_file=file, dtype=torch.float32)
    tensors = {}
    for name, tensor in model.state_dict().items():
        to = translate(name, DECODER, "model.layers.")
        layer = to.split(".")[1] if to.startswith("blk.") else None
        if layer is None or int(layer) in layers:
            tensors[to] = tensor
    write(file, tensors, rng)


def encoder(folder, layers, rng):
    tensors = {}
    with safe_open(f"{MODELS}/{folder}/model.safetensors", "pt") as source:
        for name in source.keys():
            to = translate(name, BERT, "encoder.layer.")
            if to is None:
                print("not compared:", name, file=sys.stderr)
                continue
            layer = to.split(".")[1] if to.startswith("blk.") else None
            if layer is None or int(layer) in layers:
                tensors[to] = source.get_tensor(name)
    write(folder, tensors, rng)


def main():
    rng = random.Random(7)
    encoder("all-MiniLM-L6-v2", [0, 5], rng)
    gguf("SmolLM2-135M-Instruct.Q4_1.gguf", [0, 13, 29], rng)
    gguf("Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", [0, 11, 23], rng)


main()
