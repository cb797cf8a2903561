#include "expert_workers/engine/speed.h"

#include <fmt/core.h>

#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "expert_workers/engine/engine.h"

namespace conclave::engine {
namespace {

// When a request was submitted, and when each of its tokens came; seconds.
struct Times {
  double submitted = 0;
  std::vector<double> at;
};

double Now() {
  return static_cast<double>(Clock::Real().MonotonicNanos()) / 1e9;
}

// Ordinary ids, others for every `serial`.
std::vector<int32_t> Prompt(int64_t serial, int64_t count, int64_t vocab) {
  constexpr int64_t kFirst = 1000;  // control tokens are below
  constexpr int64_t kRange = 20000;
  const bool large = vocab >= kFirst + kRange;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>((large ? kFirst : 0) +
                                       (i * 7919 + serial * 104729) %
                                           (large ? kRange : vocab)));
  }
  return ids;
}

class SpeedMeterImpl final : public SpeedMeter {
 public:
  SpeedMeterImpl(std::unique_ptr<Engine> engine, int64_t vocab,
                 const SpeedOptions& options)
      : engine_(std::move(engine)), vocab_(vocab), options_(options) {}

  absl::StatusOr<OneStreamSpeed> MeasureOne() override {
    ASSIGN_OR_RETURN(const std::vector<Times> times,
                     Run(1, options_.prompt, 1 + options_.generate));
    const Times& t = times.front();
    return OneStreamSpeed{
        .prompt_tokens_per_second =
            static_cast<double>(options_.prompt) / (t.at.front() - t.submitted),
        .generated_tokens_per_second = static_cast<double>(options_.generate) /
                                       (t.at.back() - t.at.front())};
  }

  absl::StatusOr<double> MeasureStreams() override {
    // The first to start waits for the prompts of the others; it must not end
    // before the last has generated for a while.
    ASSIGN_OR_RETURN(const std::vector<Times> times,
                     Run(options_.streams, options_.stream_prompt,
                         1 + 3 * options_.generate));
    double begin = 0, end = times.front().at.back();
    for (const Times& t : times) {
      begin = std::max(begin, t.at.front());
      end = std::min(end, t.at.back());
    }
    int64_t tokens = 0;
    for (const Times& t : times) {
      for (const double at : t.at) tokens += at > begin && at <= end;
    }
    if (tokens == 0) {
      return Internal("no moment when all streams generate; raise --generate");
    }
    return static_cast<double>(tokens) / (end - begin);
  }

 private:
  absl::StatusOr<std::vector<Times>> Run(int64_t streams, int64_t prompt,
                                         int64_t max_tokens) {
    std::vector<Times> times(static_cast<size_t>(streams));
    std::vector<std::promise<absl::Status>> done(times.size());
    absl::Status submitted;
    size_t running = 0;
    for (; running < times.size() && submitted.ok(); ++running) {
      EngineRequest request;
      request.request_id = fmt::format("speed-{}", ++serial_);
      request.prompt = Prompt(serial_, prompt, vocab_);
      request.sampling.temperature = 0;
      request.sampling.max_tokens = max_tokens;
      request.sampling.ignore_eos = true;
      Times& mine = times[running];
      std::promise<absl::Status>& end = done[running];
      mine.submitted = Now();
      submitted = engine_
                      ->Submit(std::move(request),
                               [&mine, &end](const EngineEvent& event) {
                                 mine.at.insert(mine.at.end(),
                                                event.tokens.size(), Now());
                                 if (event.finish != FinishReason::kNone) {
                                   end.set_value(event.status);
                                 }
                               })
                      .status();
      if (!submitted.ok()) break;
    }
    // All that run are waited for: they write into what is here.
    absl::Status first = submitted;
    for (size_t i = 0; i < running; ++i) {
      const absl::Status status = done[i].get_future().get();
      if (first.ok()) first = status;
    }
    RETURN_IF_ERROR(first);
    for (const Times& t : times) {
      if (t.at.size() < 2) return Internal("an answer had no second token");
    }
    return times;
  }

  const std::unique_ptr<Engine> engine_;
  const int64_t vocab_;
  const SpeedOptions options_;
  int64_t serial_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SpeedMeter>> SpeedMeter::Create(
    std::unique_ptr<weights::ModelLease> lease,
    std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
    const SpeedOptions& options) {
  for (const int64_t value : {options.prompt, options.generate, options.streams,
                              options.stream_prompt}) {
    if (value < 1) {
      return InvalidArgument(
          "prompt, generate, streams and stream_prompt are "
          "at least 1, not {}",
          value);
    }
  }
  const int64_t vocab = lease->manifest().spec.hyperparameters.vocab_size;
  EngineOptions engine_options;
  engine_options.max_batch = static_cast<int32_t>(options.streams);
  engine_options.max_draft = 0;
  engine_options.prefix_cache = false;
  ASSIGN_OR_RETURN(auto engine,
                   Engine::Create(std::move(lease), std::move(tokenizer),
                                  compute, engine_options));
  return std::unique_ptr<SpeedMeter>(
      std::make_unique<SpeedMeterImpl>(std::move(engine), vocab, options));
}

}  // namespace conclave::engine
