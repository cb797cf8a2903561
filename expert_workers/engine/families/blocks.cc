#include "expert_workers/engine/families/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace conclave::engine {
namespace {

using kernels::kPanelRows;

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

absl::Status CheckDecoderShapes(const weights::ModelHyperparameters& model) {
  const auto positive = [](const char* name, int64_t value, int64_t limit) {
    if (value >= 1 && value <= limit) return absl::OkStatus();
    return InvalidArgument("{} is {}; it must be 1..{}", name, value, limit);
  };
  // Far beyond any model, and small enough that products of three fit.
  RETURN_IF_ERROR(positive("num_layers", model.num_layers, 1 << 12));
  RETURN_IF_ERROR(positive("hidden_size", model.hidden_size, 1 << 20));
  RETURN_IF_ERROR(
      positive("intermediate_size", model.intermediate_size, 1 << 20));
  RETURN_IF_ERROR(positive("num_heads", model.num_heads, 1 << 12));
  RETURN_IF_ERROR(positive("num_kv_heads", model.num_kv_heads, 1 << 12));
  RETURN_IF_ERROR(positive("head_dim", model.head_dim, 1 << 12));
  RETURN_IF_ERROR(positive("vocab_size", model.vocab_size, 1 << 24));
  RETURN_IF_ERROR(positive("max_context", model.max_context, 1 << 28));
  if (model.num_heads % model.num_kv_heads != 0) {
    return InvalidArgument("{} heads cannot share {} key-value heads",
                           model.num_heads, model.num_kv_heads);
  }
  if (model.head_dim % 2 != 0) {
    return InvalidArgument("head_dim is {}; rotation needs pairs",
                           model.head_dim);
  }
  for (const int64_t k : {model.hidden_size, model.intermediate_size,
                          model.num_heads * model.head_dim}) {
    if (k % 32 != 0) {
      return Unimplemented("width {} is not a multiple of 32", k);
    }
  }
  if (!(model.norm_eps >= 0 && model.norm_eps < 1)) {
    return InvalidArgument("norm epsilon is {}", model.norm_eps);
  }
  return absl::OkStatus();
}

void DecoderBlocks::Embed(const Batch& batch,
                          const kernels::PackedMatrix& embedding,
                          Compute* compute) {
  batch_ = &batch;
  compute_ = compute;
  const int64_t d = model_.hidden_size;
  Grow(x_, m() * d);
  hidden_.Resize(m(), d);
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      kernels::UnpackRow(embedding, batch.tokens[static_cast<size_t>(i)],
                         x_.data() + i * d);
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

void DecoderBlocks::ProjectQkv(const QkvWeights& weights) {
  const int64_t q_size = model_.num_heads * model_.head_dim;
  const int64_t kv_size = model_.num_kv_heads * model_.head_dim;
  const int64_t stride = q_size + 2 * kv_size;
  Grow(qkv_, m() * stride);
  const auto with_bias = [&](const kernels::PackedMatrix& weight,
                             const float* bias, int64_t offset) {
    Projection p{&weight, qkv_.data() + offset, stride, nullptr};
    if (bias != nullptr) {
      p.then = [this, bias, &weight, out = p.out, stride](int64_t begin,
                                                          int64_t end) {
        const int64_t first = begin * kPanelRows;
        const int64_t count = std::min(end * kPanelRows, weight.rows) - first;
        for (int64_t i = 0; i < m(); ++i) {
          ops_.add(out + i * stride + first, bias + first, count);
        }
      };
    }
    return p;
  };
  const Projection projections[] = {
      with_bias(weights.q, weights.q_bias, 0),
      with_bias(weights.k, weights.k_bias, q_size),
      with_bias(weights.v, weights.v_bias, q_size + kv_size)};
  Project(hidden_, projections, compute_);
}

void DecoderBlocks::RotateAndStore(const KvCache& cache, int64_t layer,
                                   const kernels::RopeTable& rope) {
  const int64_t head_dim = model_.head_dim;
  const int64_t q_size = model_.num_heads * head_dim;
  const int64_t kv_size = model_.num_kv_heads * head_dim;
  const int64_t stride = q_size + 2 * kv_size;
  ForRows([&](int64_t begin, int64_t end) {
    for (const SequenceRows& rows : batch_->sequences) {
      const int64_t first = std::max(begin, rows.first_row);
      const int64_t last = std::min(end, rows.first_row + rows.num_rows);
      if (first >= last) continue;
      const kernels::KvView kv = cache.View(*rows.pages, layer);
      for (int64_t i = first; i < last; ++i) {
        const int64_t position = rows.first_position + i - rows.first_row;
        float* q = qkv_.data() + i * stride;
        float* k = q + q_size;
        ops_.rope(q, model_.num_heads, head_dim, position, rope);
        ops_.rope(k, model_.num_kv_heads, head_dim, position, rope);
        ops_.store_kv(kv, position, k, k + kv_size);
      }
    }
  });
}

void DecoderBlocks::Attend(const KvCache& cache, int64_t layer) {
  const int64_t head_dim = model_.head_dim;
  const int64_t q_size = model_.num_heads * head_dim;
  const int64_t stride = q_size + 2 * model_.num_kv_heads * head_dim;
  const float scale = static_cast<float>(
      1.0 / std::sqrt(static_cast<double>(head_dim)));
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
      ops_.attention(qkv_.data() + row * stride, stride, count,
                     rows.first_position + first, model_.num_heads, head,
                     head + group, cache.View(*rows.pages, layer), scale,
                     /*window=*/0, attended_.row(row), q_size);
      return;
    }
  };
  compute_->ParallelFor(num_blocks * groups, 1,
                        [&](int64_t begin, int64_t end) {
                          for (int64_t t = begin; t < end; ++t) run(t);
                        });
}

void DecoderBlocks::AddProjectedAttention(
    const kernels::PackedMatrix& weight) {
  AddProjected(attended_, weight);
}

void DecoderBlocks::SwiGlu(const kernels::PackedMatrix& gate,
                           const kernels::PackedMatrix& up) {
  const int64_t n = model_.intermediate_size;
  activated_.Resize(m(), n);
  Grow(up_, m() * n);
  const int64_t panels = gate.num_panels();
  compute_->ParallelFor(
      panels, Grain(panels, compute_->threads()),
      [&](int64_t begin, int64_t end) {
        ops_.matmul(hidden_, gate, begin, end, activated_.row(0), n);
        ops_.matmul(hidden_, up, begin, end, up_.data(), n);
        const int64_t first = begin * kPanelRows;
        const int64_t count = std::min(end * kPanelRows, n) - first;
        for (int64_t i = 0; i < m(); ++i) {
          float* g = activated_.row(i) + first;
          ops_.silu_mul(g, up_.data() + i * n + first, count, g);
        }
      });
}

void DecoderBlocks::AddProjectedActivation(
    const kernels::PackedMatrix& weight) {
  AddProjected(activated_, weight);
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
  CHECK(0 <= begin && begin <= end && end <= final_.m(),
        "rows {}..{} of {}", begin, end, final_.m());
  if (begin == end) return;
  final_part_.Resize(end - begin, model_.hidden_size);
  std::memcpy(final_part_.row(0), final_.row(begin),
              static_cast<size_t>((end - begin) * model_.hidden_size) *
                  sizeof(float));
  ops_.quantize(final_part_, 0, end - begin);
  const Projection projections[] = {{&head, out, head.rows, nullptr}};
  Project(final_part_, projections, compute);
}

void DecoderBlocks::ForRows(
    const std::function<void(int64_t, int64_t)>& body) {
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
                                 const kernels::PackedMatrix& weight) {
  ForRows([&](int64_t begin, int64_t end) { ops_.quantize(in, begin, end); });
  const int64_t d = model_.hidden_size;
  Grow(projected_, m() * d);
  const Projection projections[] = {
      {&weight, projected_.data(), d, [&](int64_t begin, int64_t end) {
         const int64_t first = begin * kPanelRows;
         const int64_t count = std::min(end * kPanelRows, d) - first;
         for (int64_t i = 0; i < m(); ++i) {
           ops_.add(x_.data() + i * d + first,
                    projected_.data() + i * d + first, count);
         }
       }}};
  Project(in, projections, compute_);
}

}  // namespace conclave::engine
