#!/usr/bin/env python3
"""Writes golden logits of small random models from transformers (fp32).

    python3 make_golden.py [CASE]...

One file a case: config.json as transformers writes it (and as older files
have it), names and shapes of the tensors, what a GGUF file of the model says,
ids, and logits at a few positions. The weights follow from their names by a
formula that the C++ test knows too, so they are not kept.
"""
import json
import pathlib
import sys

import numpy
import torch
import transformers

HERE = pathlib.Path(__file__).parent
MASK = (1 << 64) - 1
NUM_TOKENS = 75  # three pages of keys, and a part

SHAPE = dict(vocab_size=101, hidden_size=64, intermediate_size=96,
             num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=512,
             rms_norm_eps=1e-5, tie_word_embeddings=False,
             bos_token_id=None, eos_token_id=None, pad_token_id=None)

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 128, "beta_fast": 16.0,
        "beta_slow": 2.0}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}


def old_rope(parameters):
    """rope_parameters as files had it before transformers 5."""
    scaling = {k: v for k, v in parameters.items() if k != "rope_theta"}
    return {"rope_theta": parameters["rope_theta"], "rope_scaling": scaling}


# name: (class of config, its arguments, older config.json, GGUF's keys)
def cases():
    llama, mistral = transformers.LlamaConfig, transformers.MistralConfig
    qwen2, qwen3 = transformers.Qwen2Config, transformers.Qwen3Config
    gemma3 = transformers.Gemma3TextConfig
    base = {"rope.freq_base": 10000.0}
    yield "llama", llama, {"tie_word_embeddings": True}, {}, base
    yield ("llama_biases", llama, {"attention_bias": True}, {}, base)
    yield ("llama3", llama, {"rope_parameters": dict(LLAMA3), "head_dim": 32},
           old_rope(LLAMA3),
           {"rope.freq_base": 500000.0, "attention.key_length": 32,
            "attention.value_length": 32})
    yield ("llama_linear", llama, {"rope_parameters": dict(LINEAR)},
           old_rope(LINEAR),
           {**base, "rope.scaling.type": "linear",
            "rope.scaling.factor": 4.0})
    yield ("llama_yarn", llama, {"rope_parameters": dict(YARN)},
           old_rope(YARN),
           {**base, "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 128,
            "rope.scaling.yarn_beta_fast": 16.0,
            "rope.scaling.yarn_beta_slow": 2.0})
    yield ("mistral", mistral, {"sliding_window": 40, "head_dim": 32}, {},
           {**base, "attention.sliding_window": 40,
            "attention.key_length": 32, "attention.value_length": 32})
    yield "mistral_full", mistral, {"sliding_window": None}, {}, base
    yield "qwen2", qwen2, {}, {}, base
    yield ("qwen2_window", qwen2,
           {"use_sliding_window": True, "sliding_window": 20,
            "max_window_layers": 1}, {}, None)
    yield ("qwen3", qwen3, {"head_dim": 32, "tie_word_embeddings": True}, {},
           {**base, "attention.key_length": 32, "attention.value_length": 32})
    full = {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}
    yield ("gemma3", gemma3,
           {"num_hidden_layers": 7, "head_dim": 32, "sliding_window": 24,
            "query_pre_attn_scalar": 32, "tie_word_embeddings": True,
            "rope_parameters": {
                "full_attention": dict(full),
                "sliding_attention": {"rope_type": "default",
                                      "rope_theta": 10000.0}}},
           {**old_rope(full), "rope_local_base_freq": 10000.0,
            "sliding_window_pattern": 6},
           {"rope.freq_base": 1000000.0, "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0, "attention.sliding_window": 24,
            "attention.key_length": 32, "attention.value_length": 32})
    yield ("gemma3_scalar", gemma3,
           {"num_hidden_layers": 3, "head_dim": 32, "sliding_window": 33,
            "query_pre_attn_scalar": 100, "tie_word_embeddings": True,
            "layer_types": ["full_attention", "sliding_attention",
                            "full_attention"]}, {}, None)
    # Mixtures of experts: 8 of width 32, 3 a token, so that groups are uneven.
    moe = {"num_experts_per_tok": 3, "router_aux_loss_coef": 0.0}
    used = {"expert_count": 8, "expert_used_count": 3}
    yield ("mixtral", transformers.MixtralConfig,
           {**moe, "num_local_experts": 8, "intermediate_size": 32}, {},
           {"rope.freq_base": 1000000.0, **used})
    yield ("olmoe", transformers.OlmoeConfig,
           {**moe, "num_experts": 8, "intermediate_size": 32}, {},
           {**base, **used})
    small = {"num_experts": 8, "moe_intermediate_size": 32}
    width = {"expert_feed_forward_length": 32}
    yield ("qwen2moe", transformers.Qwen2MoeConfig,
           {**moe, **small, "shared_expert_intermediate_size": 64}, {},
           {**base, **used, **width,
            "expert_shared_feed_forward_length": 64})
    yield ("qwen3moe", transformers.Qwen3MoeConfig,
           {**moe, **small, "norm_topk_prob": True, "head_dim": 32}, {},
           {**base, **used, **width, "attention.key_length": 32,
            "attention.value_length": 32})
    yield ("qwen3moe_raw", transformers.Qwen3MoeConfig,
           {**moe, **small, "norm_topk_prob": False, "head_dim": 32}, {}, None)


def file_tensors(name, parameter, model_type):
    """(name in files, view) of a parameter: transformers joins the experts of
    a layer in memory, files hold them apart."""
    stem, _, last = name.rpartition(".")
    if not stem.endswith("mlp.experts"):
        if model_type == "mixtral":
            name = name.replace("mlp.gate", "block_sparse_moe.gate")
        return [(name, parameter)]
    gate, up, down = "gate_proj", "up_proj", "down_proj"
    if model_type == "mixtral":
        stem = stem.replace("mlp", "block_sparse_moe")
        gate, up, down = "w1", "w3", "w2"
    views = []
    for e, expert in enumerate(parameter):
        parts = ([(gate, expert.chunk(2)[0]), (up, expert.chunk(2)[1])]
                 if last == "gate_up_proj" else [(down, expert)])
        views += [(f"{stem}.{e}.{part}.weight", view) for part, view in parts]
    return views


# A sentence encoder: two windows of a text make one vector of sums.
BERT = dict(vocab_size=101, hidden_size=64, intermediate_size=96,
            num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128, type_vocab_size=2,
            layer_norm_eps=1e-12, hidden_act="gelu", pad_token_id=0)


def mixed(x):
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return x ^ (x >> numpy.uint64(31))


def values(name, shape, norm_centre):
    """Of a tensor: uniform, 12 bits each, so that half precision has them."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    count = int(numpy.prod(shape))
    index = numpy.arange(count, dtype=numpy.uint64)
    with numpy.errstate(over="ignore"):
        bits = mixed(numpy.uint64(seed) +
                     index * numpy.uint64(0x9E3779B97F4A7C15))
    unit = ((bits >> numpy.uint64(52)).astype(numpy.float64) - 2048) / 2048
    if "norm" in name or name.endswith("LayerNorm.weight"):
        unit = norm_centre + unit * 0.25
    elif len(shape) == 2 and "embed_tokens" not in name:
        unit = unit * 0.25
    return unit.astype(numpy.float32).reshape(shape)


def rope_factors(config):
    """What Llama 3's scaling divides each frequency by: rope_freqs.weight."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    half = torch.arange(0, config.head_dim, 2).double() / config.head_dim
    plain = config.rope_parameters["rope_theta"] ** -half
    return [float(f"{v:.7g}") for v in (plain / scaled.double()).tolist()]


def bert_golden():
    """Sums of the last layer's states over all tokens, of texts as long as a
    token, a page of keys and more."""
    config = transformers.BertConfig(**BERT)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    tensors = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = list(parameter.shape)
            parameter.copy_(torch.from_numpy(values(name, shape, 1.0)))
            tensors[name] = shape
    written = json.loads(config.to_json_string())
    written["architectures"] = ["BertModel"]
    for key in ("transformers_version", "_attn_implementation"):
        written.pop(key, None)
    item = {"config": written, "tensors": tensors, "norm_centre": 1,
            "texts": []}
    for count in (1, 2, 32, 33, 75, 128):
        ids = [(7 * i * i + 13 * i + 5 + count) % 101 for i in range(count)]
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0].double()
        item["texts"].append({
            "ids": ids, "sum": [round(v, 5) for v in states.sum(0).tolist()]})
    return item


def golden(config_class, arguments, older, gguf):
    config = config_class(**{**SHAPE, **arguments})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32).eval()
    gemma = config.model_type == "gemma3_text"
    tensors = {}
    with torch.no_grad():
        for joined, parameter in model.named_parameters():
            for name, view in file_tensors(joined, parameter,
                                           config.model_type):
                shape = list(view.shape)
                view.copy_(torch.from_numpy(
                    values(name, shape, 0.0 if gemma else 1.0)))
                tensors[name] = shape
    ids = [(7 * i * i + 13 * i + 5) % 101 for i in range(NUM_TOKENS)]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    written = json.loads(config.to_json_string())
    written["architectures"] = [type(model).__name__]
    for key in ("transformers_version", "_attn_implementation"):
        written.pop(key, None)
    item = {"config": written, "tensors": tensors, "ids": ids,
            "norm_centre": 0 if gemma else 1}
    if older:
        item["older_config"] = {
            **{k: v for k, v in written.items()
               if k not in ("rope_parameters", "layer_types")}, **older}
    if gguf is not None:
        architecture = {"mistral": "llama", "gemma3_text": "gemma3",
                        "mixtral": "llama", "qwen2_moe": "qwen2moe",
                        "qwen3_moe": "qwen3moe"}.get(
            config.model_type, config.model_type)
        item["gguf"] = {"architecture": architecture, "keys": {
            "block_count": config.num_hidden_layers,
            "context_length": config.max_position_embeddings,
            "embedding_length": config.hidden_size,
            "feed_forward_length": config.intermediate_size,
            "attention.head_count": config.num_attention_heads,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
            **gguf}}
        if config.rope_parameters.get("rope_type") == "llama3":
            item["gguf"]["rope_factors"] = rope_factors(config)
    item["best"] = logits.argmax(dim=-1).tolist()
    item["logits"] = {
        str(at): [round(v, 5) for v in logits[at].tolist()]
        for at in (0, 31, 50, NUM_TOKENS - 1)}
    spread = (logits.max(dim=-1).values - logits.mean(dim=-1)).mean()
    print(f"top logit over the mean: {spread:.2f}")
    return item


def main():
    made = [(name, lambda case=case: golden(*case)) for name, *case in cases()]
    for name, make in [*made, ("bert", bert_golden)]:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        (HERE / f"{name}.json").write_text(
            json.dumps(make(), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
