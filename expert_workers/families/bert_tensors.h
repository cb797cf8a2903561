// What a BERT file holds. The encoder itself is engine/forward/bert.h.
#ifndef CONCLAVE_EXPERT_WORKERS_FAMILIES_BERT_TENSORS_H_
#define CONCLAVE_EXPERT_WORKERS_FAMILIES_BERT_TENSORS_H_

#include "expert_workers/families/family.h"
#include "kernels/packed_matrix.h"

namespace conclave::families {

struct BertLinear {
  kernels::PackedMatrix weight;
  const float* bias = nullptr;
};
struct BertNorm {
  const float* weight = nullptr;
  const float* bias = nullptr;
};

struct BertEmbedding {
  kernels::PackedMatrix tokens, positions, types;
  BertNorm norm;

  void List(TensorList& tensors);
};

struct BertLayer {
  BertLinear q, k, v, output;
  BertNorm attention_norm;
  BertLinear up, down;
  BertNorm output_norm;

  void List(TensorList& tensors);
};

}  // namespace conclave::families

#endif  // CONCLAVE_EXPERT_WORKERS_FAMILIES_BERT_TENSORS_H_
