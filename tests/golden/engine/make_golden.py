#!/usr/bin/env python3
"""Writes the engine's golden files from transformers (fp32, dequantised).

    HF_HUB_OFFLINE=1 python3 make_golden.py MODELS_DIR [smollm2|coder|gemma|minilm|rope]...

MODELS_DIR holds the files that the models page names. The outputs stand
beside this script; the C++ tests read them and need no Python.

For a language model, per text: the ids, the log-probability of each next
token, and the best id at each position (the five best, with their
log-probabilities, for the short texts). For the encoder: ids and embedding.
For rope: inverse frequencies of each scaling.
"""
import json
import pathlib
import sys

import torch
import transformers
from transformers.models.llama import modeling_llama as llama
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

HERE = pathlib.Path(__file__).parent
FILES = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "coder": "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
    "gemma": "gemma-3-270m.Q4_K_M.gguf",
}
# What a prompt has to begin with.
FIRST = {"gemma": [2]}


def causal(models, name, texts):
    file = FILES[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        models, gguf_file=file)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        models, gguf_file=file, dtype=torch.float32).eval()
    out = []
    for kind in ("short", "long"):
        for text in texts[kind]:
            ids = FIRST.get(name, []) + tokenizer(
                text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].double()
            logprobs = torch.log_softmax(logits, dim=-1)
            item = {
                "ids": ids,
                "next_logprob": [
                    round(logprobs[i, ids[i + 1]].item(), 6)
                    for i in range(len(ids) - 1)
                ],
                "best": logprobs.argmax(dim=-1).tolist(),
            }
            if kind == "short":
                top = torch.topk(logprobs, 5, dim=-1)
                item["top5"] = [
                    [[int(t), round(float(p), 6)] for t, p in zip(ts, ps)]
                    for ts, ps in zip(top.indices, top.values)
                ]
            out.append(item)
    return {"model": file, "texts": out}


def encoder(models, texts):
    path = pathlib.Path(models) / "all-MiniLM-L6-v2"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModel.from_pretrained(
        path, dtype=torch.float32).eval()
    out = []
    for text in texts["encoder"]:
        batch = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state[0].double()
        mean = hidden.mean(dim=0)
        mean = mean / mean.norm()
        out.append({
            "text": text,
            "ids": batch["input_ids"][0].tolist(),
            "embedding": [round(v, 6) for v in mean.tolist()],
        })
    return {"model": "all-MiniLM-L6-v2", "texts": out}


def rope():
    cases = [
        {"rope_type": "default", "rope_theta": 1e4},
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192},
        {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0,
         "original_max_position_embeddings": 32768},
    ]
    out = []
    for parameters in cases:
        config = transformers.LlamaConfig(
            hidden_size=256, num_attention_heads=4, head_dim=64,
            max_position_embeddings=131072, rope_parameters=dict(parameters))
        if parameters["rope_type"] == "default":
            rotary = llama.LlamaRotaryEmbedding(config)
            frequencies, magnitude = rotary.inv_freq, 1.0
        else:
            init = ROPE_INIT_FUNCTIONS[parameters["rope_type"]]
            frequencies, magnitude = init(config, "cpu")
        out.append({**parameters, "head_dim": 64, "magnitude": magnitude,
                    "inv_freq": [float(f"{v:.9g}") for v in
                                 frequencies.tolist()]})
    return {"cases": out}


def main():
    models = sys.argv[1]
    names = sys.argv[2:] or ["smollm2", "coder", "gemma", "minilm", "rope"]
    texts = json.loads((HERE / "texts.json").read_text())
    for name in names:
        if name == "minilm":
            golden = encoder(models, texts)
        elif name == "rope":
            golden = rope()
        else:
            golden = causal(models, name, texts)
        (HERE / f"{name}.json").write_text(
            json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
