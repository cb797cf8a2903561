#include "kernels/gate/scorer.h"

#include <algorithm>
#include <cmath>

#include "kernels/gate/fixed_sum.h"

namespace conclave::kernels {
namespace {

// SMEAR's and T5's.
constexpr double kNormEpsilon = 1e-6;

// v = (v - mean) / sqrt(var + eps) * gain.
void LayerNorm(std::span<const float> gain, std::span<float> v) {
  const auto n = static_cast<double>(v.size());
  double mean = 0;
  for (const float value : v) mean += double{value};
  mean /= n;
  double variance = 0;
  for (const float value : v) {
    variance += (double{value} - mean) * (double{value} - mean);
  }
  const double scale = 1 / std::sqrt(variance / n + kNormEpsilon);
  for (size_t i = 0; i < v.size(); ++i) {
    const double normed = (double{v[i]} - mean) * scale;
    v[i] = static_cast<float>(normed * (gain.empty() ? 1.0 : double{gain[i]}));
  }
}

bool IsValid(const GateInput& input, int64_t t) {
  return input.valid.empty() || input.valid[static_cast<size_t>(t)] != 0;
}

}  // namespace

struct GateScorer::Row {
  absl::Status (GateScorer::*check)() const;
  Run run;
};

const GateScorer::Row& GateScorer::RowOf(ScorerKind kind) {
  // In the order of ScorerKind.
  static constexpr Row kRows[] = {
      {&GateScorer::CheckLinear, &GateScorer::Linear},
      {&GateScorer::CheckCosine, &GateScorer::Cosine},
      {&GateScorer::CheckMlp, &GateScorer::Mlp},
      {&GateScorer::CheckActNorm, &GateScorer::ActNorm},
      {&GateScorer::CheckRows, &GateScorer::DomainProj},
      {&GateScorer::CheckRows, &GateScorer::SeqMean},
      {&GateScorer::CheckFlat, &GateScorer::SeqFlat},
  };
  return kRows[static_cast<size_t>(kind)];
}

absl::StatusOr<GateScorer> GateScorer::Create(const GateConfig& config,
                                              int64_t hidden_size,
                                              const ScorerParams& params,
                                              const Ops& ops) {
  RETURN_IF_ERROR(ValidateGateConfig(config));
  GateScorer scorer(config, hidden_size, params, ops);
  RETURN_IF_ERROR((scorer.*RowOf(config.scorer).check)());
  if (config.scorer == ScorerKind::kCosine) {
    const auto dim = static_cast<size_t>(config.dim);
    for (size_t at = 0; at < scorer.rows_.size(); at += dim) {
      const float* row = scorer.rows_.data() + at;
      scorer.norms_.push_back(std::sqrt(FixedDot(row, row, config.dim)));
    }
  }
  if (config.ln_weight) {
    const auto d = static_cast<size_t>(hidden_size);
    for (size_t at = 0; at < scorer.rows_.size(); at += d) {
      LayerNorm(params.weight_gain, std::span(scorer.rows_).subspan(at, d));
    }
  }
  return scorer;
}

GateScorer::GateScorer(const GateConfig& config, int64_t hidden_size,
                       const ScorerParams& params, const Ops& ops)
    : config_(config),
      hidden_size_(hidden_size),
      params_(params),
      ops_(&ops),
      rows_(params.rows.begin(), params.rows.end()) {}

absl::Status GateScorer::CheckMatrix(std::string_view what,
                                     const PackedMatrix& matrix, int64_t rows,
                                     int64_t cols) const {
  if (matrix.rows == rows && matrix.cols == cols) return absl::OkStatus();
  return InvalidArgument("gate.scorer={}: {} is [{}, {}], not [{}, {}]",
                         Name(config_.scorer), what, matrix.rows, matrix.cols,
                         rows, cols);
}

absl::Status GateScorer::CheckLinear() const {
  const bool apart = params_.null_weight.rows > 0;
  RETURN_IF_ERROR(CheckMatrix(
      "weight", params_.weight,
      apart ? config_.num_experts : config_.num_columns(), hidden_size_));
  if (apart) {
    RETURN_IF_ERROR(CheckMatrix("null_weight", params_.null_weight,
                                config_.num_null, hidden_size_));
  }
  if (!params_.bias.empty() &&
      static_cast<int64_t>(params_.bias.size()) != config_.num_columns()) {
    return InvalidArgument("gate.scorer=linear: {} biases for {} columns",
                           params_.bias.size(), config_.num_columns());
  }
  return absl::OkStatus();
}

absl::Status GateScorer::CheckCosine() const {
  RETURN_IF_ERROR(
      CheckMatrix("weight", params_.weight, config_.dim, hidden_size_));
  if (static_cast<int64_t>(rows_.size()) !=
      config_.num_columns() * config_.dim) {
    return InvalidArgument(
        "gate.scorer=cosine: rows has {} values, not {} x {}", rows_.size(),
        config_.num_columns(), config_.dim);
  }
  return absl::OkStatus();
}

absl::Status GateScorer::CheckMlp() const {
  RETURN_IF_ERROR(
      CheckMatrix("weight", params_.weight, config_.dim, hidden_size_));
  RETURN_IF_ERROR(
      CheckMatrix("out", params_.out, config_.num_columns(), config_.dim));
  if (!params_.bias.empty() &&
      static_cast<int64_t>(params_.bias.size()) != config_.dim) {
    return InvalidArgument("gate.scorer=mlp: {} biases for gate.dim={}",
                           params_.bias.size(), config_.dim);
  }
  return absl::OkStatus();
}

absl::Status GateScorer::CheckActNorm() const {
  return CheckMatrix("weight", params_.weight,
                     config_.num_experts * config_.d_low, hidden_size_);
}

absl::Status GateScorer::CheckRows() const {
  if (static_cast<int64_t>(rows_.size()) !=
      config_.num_columns() * hidden_size_) {
    return InvalidArgument("gate.scorer={}: rows has {} values, not {} x {}",
                           Name(config_.scorer), rows_.size(),
                           config_.num_columns(), hidden_size_);
  }
  for (const auto gain : {params_.input_gain, params_.weight_gain}) {
    if (!gain.empty() && static_cast<int64_t>(gain.size()) != hidden_size_) {
      return InvalidArgument("a norm's gain has {} values, not {}", gain.size(),
                             hidden_size_);
    }
  }
  return absl::OkStatus();
}

absl::Status GateScorer::CheckFlat() const {
  const int64_t unit = config_.num_columns() * hidden_size_;
  const auto size = static_cast<int64_t>(rows_.size());
  if (size > 0 && size % unit == 0) return absl::OkStatus();
  return InvalidArgument(
      "gate.scorer=seq_flat: rows has {} values, not {} x length x {}", size,
      config_.num_columns(), hidden_size_);
}

absl::Status GateScorer::Score(const Activations& x, GateInput* input) {
  if (x.m() != input->num_tokens || x.k() != hidden_size_) {
    return InvalidArgument("x is [{}, {}], not [{}, {}]", x.m(), x.k(),
                           input->num_tokens, hidden_size_);
  }
  const int64_t rows = NumLogitRows(config_, x.m(), input->sequences);
  logits_.assign(static_cast<size_t>(rows * config_.num_columns()), 0.0f);
  RETURN_IF_ERROR((this->*RowOf(config_.scorer).run)(x, *input));
  input->logits = logits_;
  if (config_.scorer == ScorerKind::kActNorm) input->pre = product_;
  return absl::OkStatus();
}

void GateScorer::Multiply(const Activations& x) {
  const int64_t n = params_.weight.rows;
  product_.resize(static_cast<size_t>(x.m() * n));
  if (x.m() == 0) return;
  ops_->matmul(x, params_.weight, 0, params_.weight.num_panels(),
               product_.data(), n);
}

void GateScorer::DotRows(const float* v, int64_t n, int64_t row) {
  const int64_t columns = config_.num_columns();
  const auto stride = static_cast<int64_t>(rows_.size()) / columns;
  for (int64_t c = 0; c < columns; ++c) {
    logits_[static_cast<size_t>(row * columns + c)] =
        static_cast<float>(FixedDot(v, rows_.data() + c * stride, n));
  }
}

absl::Status GateScorer::Linear(const Activations& x, const GateInput&) {
  if (x.m() == 0) return absl::OkStatus();
  const int64_t columns = config_.num_columns();
  ops_->matmul(x, params_.weight, 0, params_.weight.num_panels(),
               logits_.data(), columns);
  if (params_.null_weight.rows > 0) {
    ops_->matmul(x, params_.null_weight, 0, params_.null_weight.num_panels(),
                 logits_.data() + config_.num_experts, columns);
  }
  if (params_.bias.empty()) return absl::OkStatus();
  for (size_t i = 0; i < logits_.size(); ++i) {
    logits_[i] += params_.bias[i % static_cast<size_t>(columns)];
  }
  return absl::OkStatus();
}

absl::Status GateScorer::Cosine(const Activations& x, const GateInput&) {
  Multiply(x);
  for (int64_t t = 0; t < x.m(); ++t) {
    const float* z = product_.data() + t * config_.dim;
    const double norm = std::sqrt(FixedDot(z, z, config_.dim));
    for (size_t c = 0; c < norms_.size(); ++c) {
      const float* row = rows_.data() + c * static_cast<size_t>(config_.dim);
      const double length = norm * norms_[c];
      // A row of zeros has no direction: at right angles to all.
      const double cosine =
          length > 0 ? FixedDot(z, row, config_.dim) / length : length;
      logits_[static_cast<size_t>(t) * norms_.size() + c] =
          static_cast<float>(cosine / double{config_.temp});
    }
  }
  return absl::OkStatus();
}

absl::Status GateScorer::Mlp(const Activations& x, const GateInput&) {
  Multiply(x);
  if (x.m() == 0) return absl::OkStatus();
  hidden_.Resize(x.m(), config_.dim);
  for (int64_t t = 0; t < x.m(); ++t) {
    for (int64_t i = 0; i < config_.dim; ++i) {
      float value = product_[static_cast<size_t>(t * config_.dim + i)];
      if (!params_.bias.empty()) value += params_.bias[static_cast<size_t>(i)];
      // Not max(0, value), which would hide a NaN.
      hidden_.row(t)[i] = value < 0 ? 0.0f : value;
    }
  }
  ops_->quantize(hidden_, 0, x.m());
  ops_->matmul(hidden_, params_.out, 0, params_.out.num_panels(),
               logits_.data(), config_.num_columns());
  return absl::OkStatus();
}

absl::Status GateScorer::ActNorm(const Activations& x, const GateInput&) {
  Multiply(x);
  for (size_t i = 0; i < logits_.size(); ++i) {
    const float* product =
        product_.data() + i * static_cast<size_t>(config_.d_low);
    logits_[i] = static_cast<float>(
        std::sqrt(FixedDot(product, product, config_.d_low)));
  }
  return absl::OkStatus();
}

absl::Status GateScorer::DomainProj(const Activations& x, const GateInput&) {
  for (int64_t t = 0; t < x.m(); ++t) DotRows(x.row(t), hidden_size_, t);
  return absl::OkStatus();
}

absl::Status GateScorer::SeqMean(const Activations& x, const GateInput& input) {
  const GateSequence whole = {.begin = 0, .end = x.m()};
  const auto sequences =
      input.sequences.empty() ? std::span(&whole, 1) : input.sequences;
  const auto d = static_cast<size_t>(hidden_size_);
  for (size_t s = 0; s < sequences.size(); ++s) {
    mean_.assign(d, 0.0);
    int64_t count = 0;
    for (int64_t t = sequences[s].begin; t < sequences[s].end; ++t) {
      if (!IsValid(input, t)) continue;
      ++count;
      for (size_t i = 0; i < d; ++i) mean_[i] += double{x.row(t)[i]};
    }
    if (count == 0) continue;  // its row stays zeros, and is not read
    vector_.resize(d);
    for (size_t i = 0; i < d; ++i) {
      vector_[i] = static_cast<float>(mean_[i] / static_cast<double>(count));
    }
    if (config_.ln_input) LayerNorm(params_.input_gain, vector_);
    DotRows(vector_.data(), hidden_size_, static_cast<int64_t>(s));
  }
  return absl::OkStatus();
}

absl::Status GateScorer::SeqFlat(const Activations& x, const GateInput& input) {
  const GateSequence whole = {.begin = 0, .end = x.m()};
  const auto sequences =
      input.sequences.empty() ? std::span(&whole, 1) : input.sequences;
  const int64_t length = static_cast<int64_t>(rows_.size()) /
                         (config_.num_columns() * hidden_size_);
  for (size_t s = 0; s < sequences.size(); ++s) {
    vector_.clear();
    for (int64_t t = sequences[s].begin; t < sequences[s].end; ++t) {
      if (!IsValid(input, t)) continue;
      vector_.insert(vector_.end(), x.row(t), x.row(t) + hidden_size_);
    }
    const auto n = static_cast<int64_t>(vector_.size());
    if (n > length * hidden_size_) {
      return InvalidArgument(
          "gate.scorer=seq_flat: a sequence of {} tokens; its weights are for "
          "{}",
          n / hidden_size_, length);
    }
    if (n > 0) DotRows(vector_.data(), n, static_cast<int64_t>(s));
  }
  return absl::OkStatus();
}

}  // namespace conclave::kernels
