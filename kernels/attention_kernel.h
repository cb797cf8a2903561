// Attention of a few query rows over one KV head's pages, for any
// SimdScalar-like type. Softmax runs online, page after page in ascending
// order; inside a page a score is one chain over head_dim, an output one chain
// over the tokens. A row's operations never depend on the rows beside it: the
// tile only shares the loads of K and V.
#ifndef CONCLAVE_KERNELS_ATTENTION_KERNEL_H_
#define CONCLAVE_KERNELS_ATTENTION_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "kernels/fast_math.h"
#include "kernels/isa_kernels.h"

namespace conclave::kernels {

template <typename S>
class AttentionKernel {
 public:
  static void Attend(const AttentionKv& kv, const AttentionRow* rows,
                     int64_t num_rows, float scale) {
    for (int64_t r = 0; r < num_rows; r += kTile) {
      const int64_t left = num_rows - r;
      AttentionKernel tile(
          kv, rows + r, static_cast<int>(left < kTile ? left : kTile), scale);
      tile.Run();
    }
  }

 private:
  using F = typename S::F;
  static constexpr int kTile = 4;
  static constexpr int64_t kPage = 32;

  struct State {
    float top;           // largest score so far
    float sum;           // of exp(score - top)
    int64_t begin, end;  // visible slots of the current page
    float weights[kPage];
    float acc[kMaxHeadDim];
  };

  AttentionKernel(const AttentionKv& kv, const AttentionRow* rows, int num_rows,
                  float scale)
      : kv_(kv), rows_(rows), num_rows_(num_rows), scale_(scale) {}

  void Run() {
    int64_t first = rows_[0].begin;
    int64_t last = rows_[0].end;
    for (int r = 0; r < num_rows_; ++r) {
      first = rows_[r].begin < first ? rows_[r].begin : first;
      last = rows_[r].end > last ? rows_[r].end : last;
      states_[r].top = -__builtin_inff();
      states_[r].sum = 0.0f;
      for (int64_t d = 0; d < kv_.head_dim; ++d) states_[r].acc[d] = 0.0f;
    }
    for (int64_t p = first / kPage; p * kPage < last; ++p) Page(p);
    for (int r = 0; r < num_rows_; ++r) {
      const State& state = states_[r];
      const F inverse = S::Set1(1.0f / state.sum);
      int64_t d = 0;
      for (; d + 16 <= kv_.head_dim; d += 16) {
        S::Store(rows_[r].out + d, S::Mul(S::Load(state.acc + d), inverse));
      }
      if (d < kv_.head_dim) {
        const int left = static_cast<int>(kv_.head_dim - d);
        S::StorePart(rows_[r].out + d, left,
                     S::Mul(S::LoadPart(state.acc + d, left, 0.0f), inverse));
      }
    }
  }

  void Page(int64_t p) {
    int active[kTile];
    int count = 0;
    for (int r = 0; r < num_rows_; ++r) {
      const int64_t begin = rows_[r].begin - p * kPage;
      const int64_t end = rows_[r].end - p * kPage;
      states_[r].begin = begin > 0 ? begin : 0;
      states_[r].end = end < kPage ? end : kPage;
      if (states_[r].begin < states_[r].end) active[count++] = r;
    }
    switch (count) {
      case 1:
        return PageOf<1>(p, active);
      case 2:
        return PageOf<2>(p, active);
      case 3:
        return PageOf<3>(p, active);
      case 4:
        return PageOf<4>(p, active);
      default:
        return;
    }
  }

  template <int N>
  void PageOf(int64_t p, const int* active) {
    const std::byte* page = kv_.pages[p];
    Scores<N>(page + kv_.key_offset, active);
    for (int n = 0; n < N; ++n) Softmax(states_[active[n]]);

    // The slots that all rows see are done together; the rest, row by row,
    // before and after, so that each row's chain ascends.
    int64_t begin = 0;
    int64_t end = kPage;
    for (int n = 0; n < N; ++n) {
      const State& state = states_[active[n]];
      begin = state.begin > begin ? state.begin : begin;
      end = state.end < end ? state.end : end;
    }
    if (begin > end) begin = end;
    const std::byte* values = page + kv_.value_offset;
    for (int n = 0; n < N; ++n) {
      const State& state = states_[active[n]];
      const int64_t stop = state.end < begin ? state.end : begin;
      if (state.begin < stop) Values<1>(values, active + n, state.begin, stop);
    }
    if (begin < end) Values<N>(values, active, begin, end);
    for (int n = 0; n < N; ++n) {
      const State& state = states_[active[n]];
      const int64_t start = state.begin > end ? state.begin : end;
      // What came before `begin` is done.
      const int64_t from = start > begin ? start : begin;
      if (from < state.end) Values<1>(values, active + n, from, state.end);
    }
  }

  F LoadKv(const std::byte* base, int64_t at) const {
    return kv_.is_half
               ? S::LoadHalf(reinterpret_cast<const uint16_t*>(base) + at)
               : S::Load(reinterpret_cast<const float*>(base) + at);
  }
  F LoadKvPart(const std::byte* base, int64_t at, int n) const {
    return kv_.is_half ? S::LoadHalfPart(
                             reinterpret_cast<const uint16_t*>(base) + at, n)
                       : S::LoadPart(reinterpret_cast<const float*>(base) + at,
                                     n, 0.0f);
  }

  // weights = q . K for 32 slots; what a row may not see is -inf, whatever
  // the page holds there.
  template <int N>
  void Scores(const std::byte* keys, const int* active) {
    for (int64_t half = 0; half < 2; ++half) {
      F score[N];
      for (int n = 0; n < N; ++n) score[n] = S::Set1(0.0f);
      for (int64_t d = 0; d < kv_.head_dim; ++d) {
        const F key = LoadKv(keys, d * kPage + 16 * half);
        for (int n = 0; n < N; ++n) {
          score[n] = S::Fma(S::Set1(rows_[active[n]].q[d]), key, score[n]);
        }
      }
      const F slot = S::Add(S::Load(kIota), S::Set1(half != 0 ? 16.0f : 0.0f));
      const F hidden = S::Set1(-__builtin_inff());
      for (int n = 0; n < N; ++n) {
        State& state = states_[active[n]];
        const F begin = S::Set1(static_cast<float>(state.begin));
        const F end = S::Set1(static_cast<float>(state.end));
        F s = S::Mul(score[n], S::Set1(scale_));
        s = S::IfLess(slot, begin, hidden, s);
        s = S::IfLess(slot, end, s, hidden);
        S::Store(state.weights + 16 * half, s);
      }
    }
  }

  void Softmax(State& state) const {
    using M = FastMath<S>;
    const F s0 = S::Load(state.weights);
    const F s1 = S::Load(state.weights + 16);
    const float page_top = S::ReduceMax(S::Max(s0, s1));
    const float top = state.top > page_top ? state.top : page_top;
    const F p0 = M::Exp(S::Sub(s0, S::Set1(top)));
    const F p1 = M::Exp(S::Sub(s1, S::Set1(top)));
    S::Store(state.weights, p0);
    S::Store(state.weights + 16, p1);
    const float sum = S::ReduceAdd(S::Add(p0, p1));
    if (top == state.top) {  // the factor would be 1: exact to leave out
      state.sum += sum;
      return;
    }
    float factors[16];
    S::Store(factors, M::Exp(S::Set1(state.top - top)));
    const float factor = factors[0];
    state.top = top;
    state.sum = state.sum * factor + sum;
    for (int64_t d = 0; d < kv_.head_dim; ++d) state.acc[d] *= factor;
  }

  // acc += weights[begin, end) * V
  template <int N>
  void Values(const std::byte* values, const int* active, int64_t begin,
              int64_t end) {
    int64_t d = 0;
    for (; d + 16 <= kv_.head_dim; d += 16) {
      F acc[N];
      for (int n = 0; n < N; ++n) {
        acc[n] = S::Load(states_[active[n]].acc + d);
      }
      for (int64_t t = begin; t < end; ++t) {
        const F value = LoadKv(values, t * kv_.head_dim + d);
        for (int n = 0; n < N; ++n) {
          acc[n] =
              S::Fma(S::Set1(states_[active[n]].weights[t]), value, acc[n]);
        }
      }
      for (int n = 0; n < N; ++n) S::Store(states_[active[n]].acc + d, acc[n]);
    }
    if (d == kv_.head_dim) return;
    const int left = static_cast<int>(kv_.head_dim - d);
    for (int n = 0; n < N; ++n) {
      State& state = states_[active[n]];
      F acc = S::LoadPart(state.acc + d, left, 0.0f);
      for (int64_t t = begin; t < end; ++t) {
        const F value = LoadKvPart(values, t * kv_.head_dim + d, left);
        acc = S::Fma(S::Set1(state.weights[t]), value, acc);
      }
      S::StorePart(state.acc + d, left, acc);
    }
  }

  static constexpr float kIota[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                      8, 9, 10, 11, 12, 13, 14, 15};

  const AttentionKv& kv_;
  const AttentionRow* rows_;
  int num_rows_;
  float scale_;
  State states_[kTile];
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_ATTENTION_KERNEL_H_
