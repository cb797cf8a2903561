#!/usr/bin/env python3
"""Sentence vectors of CLINC150 for clinc_bench, computed once by the oracle.

usage: clinc_vectors.py DATA.json.gz MINILM_DIR OUT.f32

OUT holds, after two little-endian uint32 (rows, columns), the mean-pooled unit
vectors of the splits train, val, oos_train, oos_val, in the file's order, as
float32. It belongs in a cache outside the source tree (28 MB). The bench needs
it only where it is not given our own encoder.
"""
import gzip
import json
import os
import sys

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def main(data, folder, out):
    splits = json.load(gzip.open(data))
    texts = [text for name in ("train", "val", "oos_train", "oos_val")
             for text, _ in splits[name]]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    with torch.no_grad():
        for start in range(0, len(order), 64):
            rows = order[start:start + 64]
            batch = tokenizer([texts[i] for i in rows], padding=True,
                              truncation=True, max_length=512,
                              return_tensors="pt")
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(pooled, dim=1)
    with open(out + ".tmp", "wb") as file:
        np.array(vectors.shape, np.uint32).tofile(file)
        vectors.tofile(file)
    os.replace(out + ".tmp", out)
    print(f"{len(texts)} vectors -> {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
