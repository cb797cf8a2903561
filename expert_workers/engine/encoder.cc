#include "expert_workers/engine/encoder.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

#include "expert_workers/engine/forward/bert.h"
#include "expert_workers/engine/ops_choice.h"

namespace conclave::engine {
namespace {

class EncoderImpl final : public Encoder {
 public:
  EncoderImpl(std::unique_ptr<weights::ModelLease> lease,
              std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
              std::unique_ptr<Bert> bert)
      : lease_(std::move(lease)),
        tokenizer_(std::move(tokenizer)),
        compute_(compute),
        bert_(std::move(bert)) {}

  int64_t hidden_size() const override { return bert_->hidden_size(); }

  absl::StatusOr<Embedding> Embed(std::string_view text) override {
    std::vector<int32_t> ids = tokenizer_->EncodeFramed(text);
    if (ids.empty()) return InvalidArgument("the text has no tokens");
    for (const int32_t id : ids) {
      if (id < 0 || id >= lease_->manifest().spec.hyperparameters.vocab_size) {
        return Internal("the tokenizer knows token {}, the model does not", id);
      }
    }
    Embedding result;
    result.token_count = static_cast<int64_t>(ids.size());
    std::vector<double> sum(static_cast<size_t>(hidden_size()), 0.0);
    AddWindows(ids, sum);
    double square = 0;
    for (const double value : sum) square += value * value;
    const double length = std::sqrt(square);
    // Not finite, or nothing to point with: a broken model.
    if (!(length > 0 && std::isfinite(length))) {
      return Internal("the encoder produced no direction");
    }
    for (const double value : sum) {
      result.values.push_back(static_cast<float>(value / length));
    }
    return result;
  }

 private:
  // The frame ([CLS], [SEP]) goes around every window; the text between is
  // cut into as few windows as hold it, of equal length give or take one.
  void AddWindows(std::span<const int32_t> ids, std::span<double> sum) {
    const auto max = static_cast<size_t>(bert_->max_tokens());
    std::lock_guard lock(mutex_);  // before the turn: waits with no core held
    if (ids.size() <= max || max < 3 || ids.size() < 3) {
      Compute::Turn turn(compute_);
      bert_->AddStates(ids.first(std::min(ids.size(), max)), compute_, turn,
                       sum);
      return;
    }
    const std::span<const int32_t> inner = ids.subspan(1, ids.size() - 2);
    const size_t windows = (inner.size() + max - 3) / (max - 2);
    for (size_t w = 0; w < windows; ++w) {
      const size_t begin = inner.size() * w / windows;
      const size_t end = inner.size() * (w + 1) / windows;
      std::vector<int32_t> window = {ids.front()};
      window.insert(window.end(), inner.begin() + static_cast<int64_t>(begin),
                    inner.begin() + static_cast<int64_t>(end));
      window.push_back(ids.back());
      Compute::Turn turn(compute_);
      bert_->AddStates(window, compute_, turn, sum);
    }
  }

  const std::unique_ptr<weights::ModelLease> lease_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  Compute* const compute_;
  std::mutex mutex_;  // one text at a time: scratch is shared
  const std::unique_ptr<Bert> bert_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Create(
    std::unique_ptr<weights::ModelLease> lease,
    std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
    const EncoderOptions& options) {
  ASSIGN_OR_RETURN(const kernels::Ops* ops,
                   ChooseOps(options.reference_path, options.isa));
  ASSIGN_OR_RETURN(std::unique_ptr<Bert> bert, Bert::Create(*lease, *ops));
  return std::unique_ptr<Encoder>(std::make_unique<EncoderImpl>(
      std::move(lease), std::move(tokenizer), compute, std::move(bert)));
}

int64_t Encoder::CopyBytes(const weights::ModelManifest& manifest,
                           const EncoderOptions& options) {
  return options.reference_path ? 0 : Bert::CopyBytes(manifest);
}

}  // namespace conclave::engine
