// Generation with guesses against generation without, on prompts that ask for
// a file to be edited and on one that leaves nothing to look up. Both engines
// hold the same weights and take turns in one run; their answers must be equal.
//
//   speculation_bench [FILE [THREADS [DRAFT]]]
//
// FILE and DRAFT are names in the models' folder (real_model.h); DRAFT, if
// given, guesses where nothing can be looked up.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/machine.h"
#include "expert_workers/engine/bench_prompts.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/real_model.h"
#include "expert_workers/engine/run_requests.h"

namespace conclave::engine {
namespace {

constexpr char kCode[] = R"(class Inventory:
    """Counts what is on the shelves of a shop."""

    def __init__(self, name, capacity=100):
        self.name = name
        self.capacity = capacity
        self.items = {}

    def add(self, item, count=1):
        if count < 0:
            raise ValueError("count must not be negative")
        if self.total() + count > self.capacity:
            raise OverflowError(f"{self.name} is full")
        self.items[item] = self.items.get(item, 0) + count
        return self.items[item]

    def remove(self, item, count=1):
        if self.items.get(item, 0) < count:
            raise KeyError(f"not enough of {item}")
        self.items[item] -= count
        if self.items[item] == 0:
            del self.items[item]

    def total(self):
        return sum(self.items.values())
)";

struct Task {
  const char* name;
  std::string question;
};

std::vector<Task> Tasks() {
  const std::string code = fmt::format("```python\n{}```", kCode);
  return {
      {"rename a method",
       "Rename the method `total` to `size` everywhere in this file. Answer "
       "with the whole file.\n" +
           code},
      {"add a docstring",
       "Add a one-line docstring to the method `add`. Answer with the whole "
       "file.\n" +
           code},
      {"change a message",
       "Make the error of `remove` say how many are left. Answer with the "
       "whole file.\n" +
           code},
      {"nothing to look up", "Tell a story about a lighthouse keeper."},
  };
}

std::vector<int32_t> ChatPrompt(const Tokenizer& tokenizer,
                                const std::string& question) {
  const std::vector<Piece> pieces = {
      {"<|im_start|>user\n", true},
      {question, false},
      {"<|im_end|>\n<|im_start|>assistant\n", true}};
  return tokenizer.EncodePieces(pieces);
}

struct Timed {
  double tokens_per_second = 0;
  std::string text;
};

// From the first token's arrival on: the prompt is not the subject.
Timed Generate(Engine& engine, const std::vector<int32_t>& prompt) {
  EngineRequest request;
  request.request_id = "bench";
  request.prompt = prompt;
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 200;
  Collector collector(1);
  double first = 0;
  double last = 0;
  EventSink sink = collector.Sink();
  const auto ticket =
      engine.Submit(std::move(request), [&](const EngineEvent& event) {
        if (!event.tokens.empty()) {
          last = Seconds();
          if (first == 0) first = last;
        }
        sink(event);
      });
  CHECK(ticket.ok(), "{}", Message(ticket.status()));
  const Outcome outcome = collector.Wait()[0];
  return {static_cast<double>(outcome.output_token_count - 1) / (last - first),
          outcome.text};
}

void Main(int argc, char** argv) {
  const std::string file =
      argc > 1 ? argv[1] : "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf";
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const std::string draft_file = argc > 3 ? argv[3] : "";
  fmt::print("{}\n", MachineLine());
  const auto compute = Compute::Create(threads);
  const auto make = [&](int32_t max_draft) {
    auto lease = RealModels::Get().Lease(file);
    CHECK(lease != nullptr, "{} is not here", file);
    const auto tokenizer = RealModels::MakeTokenizer(*lease);
    std::unique_ptr<weights::ModelLease> draft;
    if (max_draft > 0 && !draft_file.empty()) {
      draft = RealModels::Get().Lease(draft_file);
      CHECK(draft != nullptr, "{} is not here", draft_file);
    }
    auto engine = Engine::Create(std::move(lease), tokenizer, compute.get(),
                                 {.max_context = 4096, .max_draft = max_draft},
                                 std::move(draft));
    CHECK(engine.ok(), "{}", Message(engine.status()));
    return *std::move(engine);
  };
  const auto plain = make(0);
  const auto guessing = make(EngineOptions().max_draft);
  const auto tokenizer =
      RealModels::MakeTokenizer(*RealModels::Get().Lease(file));
  for (const Task& task : Tasks()) {
    const std::vector<int32_t> prompt = ChatPrompt(*tokenizer, task.question);
    std::vector<double> without, with, ratios;
    const EngineStats before = guessing->Stats();
    for (int round = 0; round < 4; ++round) {
      const Timed a = Generate(*plain, prompt);
      const Timed b = Generate(*guessing, prompt);
      CHECK(a.text == b.text, "the answers differ");
      if (round == 0) continue;  // warms both
      without.push_back(a.tokens_per_second);
      with.push_back(b.tokens_per_second);
      ratios.push_back(with.back() / without.back());
    }
    const EngineStats after = guessing->Stats();
    const auto drafted =
        static_cast<double>(after.draft_tokens - before.draft_tokens);
    fmt::print(
        "{:<20} plain {:6.1f} tok/s  guessing {:6.1f} tok/s  ratio {:.2f}  "
        "{:.0f} % of {:.0f} guesses right\n",
        task.name, Median(without), Median(with), Median(ratios),
        drafted == 0 ? 0
                     : 100.0 *
                           static_cast<double>(after.accepted_tokens -
                                               before.accepted_tokens) /
                           drafted,
        drafted);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace conclave::engine

int main(int argc, char** argv) { conclave::engine::Main(argc, argv); }
