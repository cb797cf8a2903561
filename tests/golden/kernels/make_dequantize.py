"""Writes dequantize.txt: random blocks of every type and the values that the
`gguf` package gives for them. One case a line: type, the blocks' bytes, the
fp32 values' bytes, both in hexadecimal (values little-endian).

    python make_dequantize.py > dequantize.txt
"""
import gguf
import numpy as np

HALF_FIELDS = {  # byte offsets of f16 fields: random finite scales go there
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def main():
    rng = np.random.default_rng(20261122)
    for name in ["F32", "F16", "BF16", *HALF_FIELDS]:
        kind = gguf.GGMLQuantizationType[name]
        values, size = gguf.GGML_QUANT_SIZES[kind]
        if name in HALF_FIELDS:
            rows = rng.integers(0, 256, (2, size), dtype=np.uint8)
            scales = rng.normal(0, 0.05, (2, 2)).astype(np.float16)
            scales[1, 0] = np.float16(3e-6)  # subnormal
            for i, at in enumerate(HALF_FIELDS[name]):
                rows[:, at:at + 2] = scales[:, i:i + 1].view(np.uint8)
        else:
            plain = rng.normal(0, 1, (1, 8)).astype(np.float32)
            rows = gguf.quantize(plain, kind).view(np.uint8)
        floats = gguf.dequantize(rows, kind).astype("<f4")
        print(name, rows.tobytes().hex(), floats.tobytes().hex())


if __name__ == "__main__":
    main()
