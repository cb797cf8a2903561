#include "router_service/classify/linear_svm.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/check.h"
#include "router_service/classify/row_ops.h"

namespace conclave::router {
namespace {

// Fisher-Yates with our own reduction: std::shuffle's differs by library.
void Shuffle(std::vector<uint32_t>* order, std::mt19937_64* random) {
  for (size_t i = order->size(); i > 1; --i) {
    std::swap((*order)[i - 1], (*order)[(*random)() % i]);
  }
}

// margins = bias + sum over the sample's rows of value * weights[row].
void Margins(const RowVector& x, const float* weights, size_t bias_row,
             size_t stride, float* margins) {
  std::copy_n(weights + bias_row * stride, stride, margins);
  const size_t count = x.rows.size();
  const auto row = [&](size_t j) { return weights + x.rows[j] * stride; };
  constexpr size_t kAhead = 8;
  size_t j = 0;
  for (; j + 4 <= count; j += 4) {
    for (size_t k = j + kAhead; k < std::min(j + kAhead + 4, count); ++k) {
      PrefetchRow(row(k), stride);
    }
    AddScaled4(x.values.data() + j, row(j), row(j + 1), row(j + 2), row(j + 3),
               margins, stride);
  }
  for (; j < count; ++j) AddScaled(x.values[j], row(j), margins, stride);
}

// weights[row] += value * step, for the sample's rows and the bias.
void AddOuter(const RowVector& x, const float* step, size_t bias_row,
              size_t stride, float* weights) {
  for (size_t j = 0; j < x.rows.size(); ++j) {
    AddScaled(x.values[j], step, weights + x.rows[j] * stride, stride);
  }
  AddScaled(1, step, weights + bias_row * stride, stride);
}

// weights += sum over categories of y * alpha * x: the primal point that
// belongs to the dual start.
void AddStart(const RowVector& x, uint32_t label, const float* alpha,
              uint32_t num_categories, size_t stride, size_t bias_row,
              float* weights) {
  if (std::all_of(alpha, alpha + stride, [](float a) { return a == 0; })) {
    return;
  }
  std::vector<float> step(stride, 0.0f);
  for (uint32_t c = 0; c < num_categories; ++c) {
    step[c] = c == label ? alpha[c] : -alpha[c];
  }
  AddOuter(x, step.data(), bias_row, stride, weights);
}

}  // namespace

std::vector<float> RarityWeights(std::span<const uint32_t> labels,
                                 std::span<const uint32_t> use,
                                 uint32_t num_categories) {
  std::vector<uint32_t> counts(num_categories, 0);
  float total = 0;
  for (uint32_t i : use) {
    if (labels[i] >= num_categories) continue;
    ++counts[labels[i]];
    total += 1;
  }
  std::vector<float> weights(num_categories, 1.0f);
  for (uint32_t c = 0; c < num_categories; ++c) {
    if (counts[c] == 0) continue;
    const float mean = total / static_cast<float>(num_categories);
    weights[c] = std::clamp(mean / static_cast<float>(counts[c]), 1.0f, 8.0f);
  }
  return weights;
}

LinearSvm LinearSvm::Train(std::span<const RowVector> samples,
                           std::span<const uint32_t> labels,
                           std::span<const uint32_t> use, uint32_t num_rows,
                           uint32_t num_categories, const SvmOptions& options,
                           std::vector<float>* alpha) {
  LinearSvm svm;
  const size_t stride = PaddedCategories(num_categories);
  if (num_categories == 0) return svm;
  std::vector<float> all_weights((size_t{num_rows} + 1) * stride, 0.0f);
  float* const weights = all_weights.data();
  const size_t bias_row = num_rows;

  // Dual variables, and x.x + 1 (the bias is a feature of value 1) + D.
  const auto diagonal = static_cast<float>(0.5 / options.c);
  const auto diagonal_of = [&](uint32_t label) {  // for its own category
    const bool weighted = label < options.positive_weight.size();
    return weighted ? diagonal / options.positive_weight[label] : diagonal;
  };
  std::vector<float> own_alpha;
  if (alpha == nullptr) alpha = &own_alpha;
  alpha->resize(samples.size() * stride, 0.0f);
  std::vector<float> inverse_q(use.size()), inverse_q_own(use.size());
  for (size_t k = 0; k < use.size(); ++k) {
    const RowVector& x = samples[use[k]];
    double q = 1;
    for (float value : x.values) q += double(value) * value;
    inverse_q[k] = static_cast<float>(1 / (q + diagonal));
    inverse_q_own[k] =
        static_cast<float>(1 / (q + diagonal_of(labels[use[k]])));
    AddStart(x, labels[use[k]], alpha->data() + use[k] * stride, num_categories,
             stride, bias_row, weights);
  }

  std::vector<uint32_t> order(use.size());
  std::iota(order.begin(), order.end(), 0u);
  std::mt19937_64 random(options.seed);
  std::vector<float> step(stride);
  for (int epoch = 0; epoch < options.max_epochs; ++epoch) {
    Shuffle(&order, &random);
    float worst = 0;
    for (uint32_t k : order) {
      const RowVector& x = samples[use[k]];
      const uint32_t label = labels[use[k]];
      CHECK(label < num_categories || label == kNone, "label {} of {}", label,
            num_categories);
      Margins(x, weights, bias_row, stride, step.data());
      float* const a = alpha->data() + size_t{use[k]} * stride;
      const float own_diagonal = diagonal_of(label);
      bool moved = false;
      for (uint32_t c = 0; c < num_categories; ++c) {
        const bool own = c == label;
        const float y = own ? 1.0f : -1.0f;
        const float gradient =
            y * step[c] - 1 + (own ? own_diagonal : diagonal) * a[c];
        step[c] = 0;
        if (a[c] == 0 && gradient >= 0) continue;
        worst = std::max(worst, std::abs(gradient));
        const float next = std::max(
            a[c] - gradient * (own ? inverse_q_own[k] : inverse_q[k]), 0.0f);
        step[c] = (next - a[c]) * y;
        a[c] = next;
        moved = true;
      }
      if (!moved) continue;
      std::fill(step.begin() + num_categories, step.end(), 0.0f);
      AddOuter(x, step.data(), bias_row, stride, weights);
    }
    svm.epochs_ = epoch + 1;
    if (worst < options.tolerance) break;
  }
  svm.served_ = ByteRows(all_weights, num_rows, stride, num_categories);
  return svm;
}

}  // namespace conclave::router
