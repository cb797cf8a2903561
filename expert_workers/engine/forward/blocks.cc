#include "expert_workers/engine/forward/blocks.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/limits.h"

namespace conclave::engine {
namespace {

using kernels::kActivationBlock;
using kernels::kPanelRows;
constexpr int64_t kPanelsPerBlock = kActivationBlock / kPanelRows;

// Rows below which a row-wise stretch stays on the calling thread: waking
// another costs some microseconds, one row about as much.
constexpr int64_t kFewRows = 4;

// Query tokens of one attention task: a page's worth, so that tasks of a long
// prompt are many and alike.
constexpr int64_t kAttentionRows = 32;

// Chunks per thread: enough that a slow thread (the machine is shared) leaves
// its share to the other, few enough that taking them is not work.
constexpr int64_t kChunksPerThread = 8;

int64_t Grain(int64_t count, int threads) {
  return std::max<int64_t>(count / (threads * kChunksPerThread), 1);
}

template <typename T>
void Grow(std::vector<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) {
    buffer.resize(static_cast<size_t>(size));
  }
}

}  // namespace

void DecoderBlocks::Embed(const Batch& batch,
                          const kernels::PackedMatrix& embedding, float scale,
                          Compute* compute) {
  experts_.BeginStep();
  batch_ = &batch;
  compute_ = compute;
  const int64_t d = model_.hidden_size;
  Grow(x_, m() * d);
  hidden_.Resize(m(), d);
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* x = x_.data() + i * d;
      kernels::UnpackRow(embedding, batch.tokens[static_cast<size_t>(i)], x);
      if (scale == 1.0f) continue;
      for (int64_t c = 0; c < d; ++c) x[c] *= scale;
    }
  });
}

void DecoderBlocks::Norm(const float* weight) {
  const int64_t d = model_.hidden_size;
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      ops_.rms_norm(x_.data() + i * d, weight, d, model_.norm_eps,
                    hidden_.row(i));
    }
    ops_.quantize(hidden_, begin, end);
  });
}

void DecoderBlocks::ProjectQkv(const families::AttentionTensors& tensors) {
  const int64_t stride = QkvStride();
  Grow(qkv_, m() * stride);
  float* q = qkv_.data();
  float* k = q + QuerySize();
  const Projection projections[] = {
      WithBias(tensors.q, tensors.q_bias, q, stride),
      WithBias(tensors.k, tensors.k_bias, k, stride),
      WithBias(tensors.v, tensors.v_bias, k + KeySize(), stride)};
  Project(hidden_, projections, compute_);
}

DecoderBlocks::Projection DecoderBlocks::WithBias(
    const kernels::PackedMatrix& weight, const float* bias, float* out,
    int64_t stride) {
  Projection p{&weight, out, stride, nullptr};
  if (bias == nullptr) return p;
  p.then = [this, bias, &weight, out, stride](int64_t begin, int64_t end) {
    const int64_t first = begin * kPanelRows;
    const int64_t count = std::min(end * kPanelRows, weight.rows) - first;
    for (int64_t i = 0; i < m(); ++i) {
      ops_.add(out + i * stride + first, bias + first, count);
    }
  };
  return p;
}

void DecoderBlocks::NormQueryAndKey(const float* query, const float* key) {
  const int64_t head_dim = model_.head_dim;
  const int64_t num_heads = model_.num_heads;
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // k's heads lie behind q's.
      float* heads = qkv_.data() + i * QkvStride();
      for (int64_t h = 0; h < num_heads + model_.num_kv_heads; ++h) {
        float* head = heads + h * head_dim;
        ops_.rms_norm(head, h < num_heads ? query : key, head_dim,
                      model_.norm_eps, head);
      }
    }
  });
}

void DecoderBlocks::NormWholeQueryAndKey(const float* query, const float* key) {
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* q = qkv_.data() + i * QkvStride();
      float* k = q + QuerySize();
      ops_.rms_norm(q, query, QuerySize(), model_.norm_eps, q);
      ops_.rms_norm(k, key, KeySize(), model_.norm_eps, k);
    }
  });
}

void DecoderBlocks::RotateAndStore() {
  const int64_t head_dim = model_.head_dim;
  ForRows([&](int64_t begin, int64_t end) {
    for (const SequenceRows& rows : batch_->sequences) {
      const int64_t first = std::max(begin, rows.first_row);
      const int64_t last = std::min(end, rows.first_row + rows.num_rows);
      if (first >= last) continue;
      const kernels::KvView kv = place_.cache->View(*rows.pages, place_.index);
      for (int64_t i = first; i < last; ++i) {
        const int64_t position = rows.first_position + i - rows.first_row;
        float* q = qkv_.data() + i * QkvStride();
        float* k = q + QuerySize();
        ops_.rope(q, model_.num_heads, head_dim, position, *place_.rope);
        ops_.rope(k, model_.num_kv_heads, head_dim, position, *place_.rope);
        ops_.store_kv(kv, position, k, k + KeySize());
      }
    }
  });
}

void DecoderBlocks::Attend() {
  const int64_t q_size = QuerySize();
  const int64_t stride = QkvStride();
  attended_.Resize(m(), q_size);

  // Tasks are (query block, heads). Heads that share keys stay together, so
  // that keys are loaded once; unless that leaves threads idle.
  int64_t num_blocks = 0;
  for (const SequenceRows& rows : batch_->sequences) {
    num_blocks += (rows.num_rows + kAttentionRows - 1) / kAttentionRows;
  }
  int64_t group = model_.num_heads / model_.num_kv_heads;
  if (num_blocks * model_.num_kv_heads % compute_->threads() != 0 &&
      num_blocks * model_.num_kv_heads < 4 * compute_->threads()) {
    group = 1;
  }
  const int64_t groups = model_.num_heads / group;
  // A head of whole blocks is made int8 by the task that computed it.
  const bool whole_blocks = HeadsAreWholeBlocks();
  const auto run = [&](int64_t task) {
    int64_t block = task / groups;
    const int64_t head = task % groups * group;
    for (const SequenceRows& rows : batch_->sequences) {
      const int64_t blocks =
          (rows.num_rows + kAttentionRows - 1) / kAttentionRows;
      if (block >= blocks) {
        block -= blocks;
        continue;
      }
      const int64_t first = block * kAttentionRows;
      const int64_t count = std::min(kAttentionRows, rows.num_rows - first);
      const int64_t row = rows.first_row + first;
      ops_.attention(
          qkv_.data() + row * stride, stride, count,
          rows.first_position + first, model_.num_heads, head, head + group,
          place_.cache->View(*rows.pages, place_.index), place_.attention_scale,
          place_.window, attended_.row(row), q_size);
      if (whole_blocks) {
        const int64_t blocks_a_head = model_.head_dim / kActivationBlock;
        ops_.quantize_blocks(attended_, row, row + count, head * blocks_a_head,
                             (head + group) * blocks_a_head);
      }
      return;
    }
  };
  compute_->ParallelFor(num_blocks * groups, 1,
                        [&](int64_t begin, int64_t end) {
                          for (int64_t t = begin; t < end; ++t) run(t);
                        });
}

bool DecoderBlocks::HeadsAreWholeBlocks() const {
  return model_.head_dim % kActivationBlock == 0;
}

void DecoderBlocks::FinishAttended() {
  if (HeadsAreWholeBlocks()) return;
  ForRows([&](int64_t begin, int64_t end) {
    ops_.quantize(attended_, begin, end);
  });
}

void DecoderBlocks::AddAttention(const families::AttentionTensors& tensors) {
  FinishAttended();
  AddProjected(attended_, tensors.output, tensors.output_bias);
}

void DecoderBlocks::AddNormedAttention(
    const families::AttentionTensors& tensors, const float* norm) {
  FinishAttended();
  AddNormed(attended_, tensors.output, norm);
}

void DecoderBlocks::GatedUp(families::Activation activation,
                            const families::FeedForwardTensors& tensors) {
  const auto gated = activation == families::Activation::kSilu
                         ? ops_.silu_mul
                         : ops_.gelu_tanh_mul;
  const int64_t n = model_.intermediate_size;
  activated_.Resize(m(), n);
  Grow(up_, m() * n);
  // Two panels are a block of 32: whoever computed it makes it int8.
  const int64_t pairs = n / kActivationBlock;
  compute_->ParallelFor(
      pairs, Grain(pairs, compute_->threads()),
      [&](int64_t first_pair, int64_t last_pair) {
        const int64_t begin = first_pair * kPanelsPerBlock;
        const int64_t end = last_pair * kPanelsPerBlock;
        ops_.matmul(hidden_, tensors.gate, begin, end, activated_.row(0), n);
        ops_.matmul(hidden_, tensors.up, begin, end, up_.data(), n);
        const int64_t first = begin * kPanelRows;
        const int64_t count = std::min(end * kPanelRows, n) - first;
        for (int64_t i = 0; i < m(); ++i) {
          float* g = activated_.row(i) + first;
          gated(g, up_.data() + i * n + first, count, g);
        }
        ops_.quantize_blocks(activated_, 0, m(), first_pair, last_pair);
      });
}

void DecoderBlocks::Route(const families::MoeTensors& tensors) {
  Grow(gate_logits_, m() * model_.moe.num_experts);
  const Projection projections[] = {
      {&tensors.gate, gate_logits_.data(), model_.moe.num_experts, nullptr}};
  Project(hidden_, projections, compute_);
  experts_.Route(m(), gate_logits_.data());
}

void DecoderBlocks::AddExperts(const families::MoeTensors& tensors) {
  experts_.Add(hidden_, tensors, compute_, x_.data());
}

void DecoderBlocks::AddSharedExpert(
    const families::SharedExpertTensors& tensors) {
  experts_.AddShared(hidden_, tensors, compute_, x_.data());
}

void DecoderBlocks::AddFeedForward(
    const families::FeedForwardTensors& tensors) {
  AddProjected(activated_, tensors.down, nullptr);
}

void DecoderBlocks::AddNormedFeedForward(
    const families::FeedForwardTensors& tensors, const float* norm) {
  AddNormed(activated_, tensors.down, norm);
}

void DecoderBlocks::KeepFinal(const float* weight) {
  const int64_t d = model_.hidden_size;
  const auto& rows = batch_->logit_rows;
  final_.Resize(static_cast<int64_t>(rows.size()), d);
  for (size_t i = 0; i < rows.size(); ++i) {
    ops_.rms_norm(x_.data() + rows[i] * d, weight, d, model_.norm_eps,
                  final_.row(static_cast<int64_t>(i)));
  }
}

void DecoderBlocks::Logits(const kernels::PackedMatrix& head, int64_t begin,
                           int64_t end, Compute* compute, float* out) {
  CHECK(0 <= begin && begin <= end && end <= final_.m(), "rows {}..{} of {}",
        begin, end, final_.m());
  if (begin == end) return;
  final_part_.Resize(end - begin, model_.hidden_size);
  std::memcpy(
      final_part_.row(0), final_.row(begin),
      static_cast<size_t>((end - begin) * model_.hidden_size) * sizeof(float));
  ops_.quantize(final_part_, 0, end - begin);
  const Projection projections[] = {{&head, out, head.rows, nullptr}};
  Project(final_part_, projections, compute);
}

void DecoderBlocks::ForRows(const std::function<void(int64_t, int64_t)>& body) {
  if (m() <= kFewRows) {
    body(0, m());
  } else {
    compute_->ParallelFor(m(), Grain(m(), compute_->threads()), body);
  }
}

void DecoderBlocks::Project(const kernels::Activations& in,
                            std::span<const Projection> projections,
                            Compute* compute) {
  int64_t panels = 0;
  for (const Projection& p : projections) panels += p.weight->num_panels();
  compute->ParallelFor(
      panels, Grain(panels, compute->threads()),
      [&](int64_t begin, int64_t end) {
        int64_t before = 0;  // panels of the projections already passed
        for (const Projection& p : projections) {
          const int64_t count = p.weight->num_panels();
          const int64_t first = std::max<int64_t>(begin - before, 0);
          const int64_t last = std::min(end - before, count);
          if (first < last) {
            ops_.matmul(in, *p.weight, first, last, p.out, p.stride);
            if (p.then) p.then(first, last);
          }
          before += count;
        }
      });
}

void DecoderBlocks::AddProjected(kernels::Activations& in,
                                 const kernels::PackedMatrix& weight,
                                 const float* bias) {
  const int64_t d = model_.hidden_size;
  Grow(projected_, m() * d);
  const Projection projections[] = {
      {&weight, projected_.data(), d, [&](int64_t begin, int64_t end) {
         const int64_t first = begin * kPanelRows;
         const int64_t count = std::min(end * kPanelRows, d) - first;
         for (int64_t i = 0; i < m(); ++i) {
           float* out = projected_.data() + i * d + first;
           if (bias != nullptr) ops_.add(out, bias + first, count);
           ops_.add(x_.data() + i * d + first, out, count);
         }
       }}};
  Project(in, projections, compute_);
}

void DecoderBlocks::AddNormed(kernels::Activations& in,
                              const kernels::PackedMatrix& weight,
                              const float* norm) {
  const int64_t d = model_.hidden_size;
  Grow(projected_, m() * d);
  const Projection projections[] = {{&weight, projected_.data(), d, nullptr}};
  Project(in, projections, compute_);
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = projected_.data() + i * d;
      ops_.rms_norm(row, norm, d, model_.norm_eps, row);
      ops_.add(x_.data() + i * d, row, d);
    }
  });
}

}  // namespace conclave::engine
