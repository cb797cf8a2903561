#include "expert_workers/engine/forward/bert.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/check.h"
#include "expert_workers/engine/forward/tensor_binder.h"

namespace conclave::engine {
namespace {

using kernels::kPanelRows;

constexpr int64_t kFewRows = 2;

// Formats of fp32's speed; the others are integers already.
bool IsCopied(kernels::QuantType type) {
  return kernels::TraitsOf(type).block_values == 1;
}

int64_t Grain(int64_t count, int threads) {
  return std::max<int64_t>(count / (threads * 8), 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Bert>> Bert::Create(
    const weights::ModelLease& lease, const kernels::Ops& ops) {
  const weights::ModelHyperparameters& model =
      lease.manifest().spec.hyperparameters;
  if (model.architecture != "bert") {
    return Unimplemented("architecture \"{}\" is not an encoder; bert is",
                         model.architecture);
  }
  for (const int64_t value :
       {model.num_layers, model.hidden_size, model.intermediate_size,
        model.num_heads, model.vocab_size, model.max_context}) {
    if (value < 1 || value > (1 << 24)) {
      return InvalidArgument("a hyperparameter is {}; it must be 1..{}", value,
                             1 << 24);
    }
  }
  if (model.hidden_size % 32 != 0 || model.intermediate_size % 32 != 0 ||
      model.hidden_size % model.num_heads != 0) {
    return Unimplemented("widths {} and {} with {} heads", model.hidden_size,
                         model.intermediate_size, model.num_heads);
  }
  std::unique_ptr<Bert> bert(new Bert(model, ops));
  RETURN_IF_ERROR(bert->Load(lease));
  return bert;
}

Bert::Bert(const weights::ModelHyperparameters& model, const kernels::Ops& ops)
    : ops_(ops),
      num_layers_(model.num_layers),
      d_(model.hidden_size),
      f_(model.intermediate_size),
      num_heads_(model.num_heads),
      head_dim_(model.hidden_size / model.num_heads),
      max_tokens_(model.max_context),
      eps_(model.norm_eps),
      in_8_bits_(&ops != &kernels::ReferenceOps()) {}

absl::Status Bert::Load(const weights::ModelLease& lease) {
  TensorBinder embedding(lease, "");
  embedding_.List(embedding);
  RETURN_IF_ERROR(embedding.status());
  for (int64_t i = 0; i < num_layers_; ++i) {
    TensorBinder layer(lease, fmt::format("blk.{}.", i));
    layers_.emplace_back().List(layer);
    RETURN_IF_ERROR(layer.status());
    if (in_8_bits_) CopyIn8Bits(layers_.back());
  }
  return absl::OkStatus();
}

void Bert::CopyIn8Bits(families::BertLayer& layer) {
  for (families::BertLinear* linear :
       {&layer.q, &layer.k, &layer.v, &layer.output, &layer.up, &layer.down}) {
    if (!IsCopied(linear->weight.type)) continue;
    // Null: a weight that 8 bits cannot say (1e7, say) is used as it is.
    if (auto copy = kernels::OwnedMatrix::InQ8_0(linear->weight)) {
      linear->weight = copy->view();
      copies_.push_back(std::move(copy));
    }
  }
}

int64_t Bert::CopyBytes(const weights::ModelManifest& manifest) {
  int64_t bytes = 0;
  for (const weights::UnitInfo& unit : manifest.units) {
    if (unit.name == "embedding") continue;
    for (const weights::TensorInfo& tensor : unit.tensors) {
      if (tensor.is_vector || !IsCopied(tensor.type)) continue;
      if (!kernels::CanPack(kernels::QuantType::kQ8_0, tensor.cols)) continue;
      bytes += kernels::OwnedMatrix::BytesInQ8_0(tensor.rows, tensor.cols);
    }
  }
  return bytes;
}

void Bert::AddStates(std::span<const int32_t> ids, Compute* compute,
                     Compute::Turn& turn, std::span<double> sum) {
  CHECK(!ids.empty() && static_cast<int64_t>(ids.size()) <= max_tokens_,
        "{} tokens", ids.size());
  compute_ = compute;
  m_ = static_cast<int64_t>(ids.size());
  Embed(ids);
  for (const families::BertLayer& layer : layers_) {
    turn.Yield();
    RunLayer(layer);
  }
  for (int64_t i = 0; i < m_; ++i) {
    const float* row = x_.row(i);
    for (size_t c = 0; c < sum.size(); ++c) {
      sum[c] += static_cast<double>(row[c]);
    }
  }
}

void Bert::Embed(std::span<const int32_t> ids) {
  x_.Resize(m_, d_);
  if (static_cast<int64_t>(y_.size()) < m_ * d_) {
    y_.resize(static_cast<size_t>(m_ * d_));
    qkv_.resize(static_cast<size_t>(m_ * 3 * d_));
  }
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* x = x_.row(i);
      float* part = y_.data() + i * d_;
      kernels::UnpackRow(embedding_.tokens, ids[static_cast<size_t>(i)], x);
      kernels::UnpackRow(embedding_.types, 0, part);
      ops_.add(x, part, d_);
      kernels::UnpackRow(embedding_.positions, i, part);
      ops_.add(x, part, d_);
      ops_.layer_norm(x, embedding_.norm.weight, embedding_.norm.bias, d_, eps_,
                      x);
    }
    ops_.quantize(x_, begin, end);
  });
}

void Bert::RunLayer(const families::BertLayer& layer) {
  float* q = qkv_.data();
  const Target qkv[] = {{&layer.q, q, 3 * d_, nullptr},
                        {&layer.k, q + d_, 3 * d_, nullptr},
                        {&layer.v, q + 2 * d_, 3 * d_, nullptr}};
  Project(x_, qkv);

  attended_.Resize(m_, d_);
  const float scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim_)));
  compute_->ParallelFor(num_heads_, 1, [&](int64_t begin, int64_t end) {
    ops_.encoder_attention(q, q + d_, q + 2 * d_, 3 * d_, m_, num_heads_, begin,
                           end, head_dim_, scale, attended_.row(0), d_);
  });
  ForRows([&](int64_t begin, int64_t end) {
    ops_.quantize(attended_, begin, end);
  });
  const Target output[] = {{&layer.output, y_.data(), d_, nullptr}};
  Project(attended_, output);
  AddAndNorm(layer.attention_norm);

  activated_.Resize(m_, f_);
  const Target up[] = {{&layer.up, activated_.row(0), f_, ops_.gelu}};
  Project(x_, up);
  ForRows([&](int64_t begin, int64_t end) {
    ops_.quantize(activated_, begin, end);
  });
  const Target down[] = {{&layer.down, y_.data(), d_, nullptr}};
  Project(activated_, down);
  AddAndNorm(layer.output_norm);
}

void Bert::Project(kernels::Activations& in, std::span<const Target> targets) {
  const int64_t each = targets[0].linear->weight.num_panels();
  const int64_t panels = each * static_cast<int64_t>(targets.size());
  compute_->ParallelFor(
      panels, Grain(panels, compute_->threads()),
      [&](int64_t begin, int64_t end) {
        for (int64_t t = begin / each; t * each < end; ++t) {
          const Target& target = targets[static_cast<size_t>(t)];
          const families::BertLinear& linear = *target.linear;
          const int64_t first = std::max(begin - t * each, int64_t{0});
          const int64_t last = std::min(end - t * each, each);
          ops_.matmul(in, linear.weight, first, last, target.out,
                      target.stride);
          const int64_t at = first * kPanelRows;
          const int64_t count =
              std::min(last * kPanelRows, linear.weight.rows) - at;
          for (int64_t i = 0; i < m_; ++i) {
            float* values = target.out + i * target.stride + at;
            ops_.add(values, linear.bias + at, count);
            if (target.then) target.then(values, count);
          }
        }
      });
}

void Bert::AddAndNorm(const families::BertNorm& norm) {
  ForRows([&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* x = x_.row(i);
      ops_.add(x, y_.data() + i * d_, d_);
      ops_.layer_norm(x, norm.weight, norm.bias, d_, eps_, x);
    }
    ops_.quantize(x_, begin, end);
  });
}

void Bert::ForRows(const std::function<void(int64_t, int64_t)>& body) {
  if (m_ <= kFewRows) {
    body(0, m_);
  } else {
    compute_->ParallelFor(m_, Grain(m_, compute_->threads()), body);
  }
}

}  // namespace conclave::engine
