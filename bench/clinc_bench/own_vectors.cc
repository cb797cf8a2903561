#include "bench/clinc_bench/own_vectors.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "base/clock.h"
#include "expert_workers/engine/real_model.h"

namespace conclave::bench {

OwnEncoder MakeOwnEncoder(const std::string& model, int threads) {
  OwnEncoder own;
  auto lease = engine::RealModels::Get().Lease(model);
  if (lease == nullptr) return own;
  const auto tokenizer = engine::RealModels::MakeTokenizer(*lease);
  own.compute = engine::Compute::Create(threads);
  auto encoder =
      engine::Encoder::Create(std::move(lease), tokenizer, own.compute.get());
  CHECK(encoder.ok(), "{}", Message(encoder.status()));
  own.encoder = *std::move(encoder);
  return own;
}

void EmbedAll(engine::Encoder& encoder, Clinc* clinc) {
  double least = 1, sum = 0;
  int64_t count = 0, tokens = 0;
  const int64_t start = Clock::Real().MonotonicNanos();
  for (auto* split : {&clinc->train, &clinc->val, &clinc->out_of_scope}) {
    for (ClincRow& row : *split) {
      auto own = encoder.Embed(row.text);
      CHECK(own.ok(), "{}", Message(own.status()));
      tokens += own->token_count;
      ++count;
      if (clinc->has_vectors) {
        double cosine = 0;
        for (size_t i = 0; i < own->values.size(); ++i) {
          cosine += double(own->values[i]) * double(row.vector[i]);
        }
        least = std::min(least, cosine);
        sum += cosine;
      }
      row.vector = std::move(own->values);
    }
  }
  const double seconds =
      static_cast<double>(Clock::Real().MonotonicNanos() - start) * 1e-9;
  fmt::print("own vectors of {} texts, {:.1f} tokens each: {:.2f} ms each",
             count, double(tokens) / double(count),
             1e3 * seconds / double(count));
  if (clinc->has_vectors) {
    fmt::print("; cosine to the oracle's: mean {:.5f}, least {:.5f}",
               sum / double(count), least);
  }
  fmt::print("\n");
  std::fflush(stdout);
  clinc->has_vectors = true;
}

}  // namespace conclave::bench
