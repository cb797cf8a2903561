// Neighbours never matter: a request's tokens, texts and log-probabilities are
// the same bits alone and in any company, order, chunking, cache size, with
// anything remembered or forgotten, preempted or not, guessed ahead or not, for
// any number of threads and any instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "expert_workers/engine/draft_model.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/engine/run_requests.h"
#include "expert_workers/engine/tiny_model.h"
#include "kernels/ops.h"

namespace conclave::engine {
namespace {

constexpr uint32_t kRequests = 48;

// CONCLAVE_TRIALS=10000 for a long run, CONCLAVE_FIRST_TRIAL to begin at
// another than 0.
int FromEnvironment(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

class Draw {
 public:
  explicit Draw(uint32_t seed) : random_(seed) {}
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  bool OneIn(uint32_t n) { return Below(n) == 0; }
  int32_t Between(int32_t low, int32_t high) {
    return low +
           static_cast<int32_t>(Below(static_cast<uint32_t>(high - low + 1)));
  }

 private:
  std::mt19937 random_;
};

// Three texts that many prompts begin with, to a point anywhere in a page.
std::vector<int32_t> Beginning(Draw& draw) {
  const uint32_t text = draw.Below(3);
  std::vector<int32_t> tokens;
  for (int32_t i = draw.Between(1, 110); i > 0; --i) {
    tokens.push_back(static_cast<int32_t>((tokens.size() * 37 + 11 * text) %
                                          kTinyVocabSize));
  }
  return tokens;
}

EngineRequest RandomRequest(uint32_t seed) {
  Draw draw(seed);
  EngineRequest request;
  request.request_id = "request " + std::to_string(seed);
  if (!draw.OneIn(3)) request.prompt = Beginning(draw);
  for (int32_t i = draw.Between(1, 40); i > 0; --i) {
    request.prompt.push_back(static_cast<int32_t>(draw.Below(kTinyVocabSize)));
  }
  SamplingParams& s = request.sampling;
  s.max_tokens = draw.OneIn(8) ? 0 : draw.Between(1, 40);
  s.temperature =
      draw.OneIn(3) ? 0.0f : 0.25f * static_cast<float>(draw.Below(8));
  if (draw.OneIn(3)) s.top_k = draw.Between(0, 49);
  if (draw.OneIn(3)) s.top_p = 0.9f;
  if (draw.OneIn(4)) s.min_p = 0.05f;
  if (draw.OneIn(4)) s.repetition_penalty = 1.2f;
  if (draw.OneIn(4)) s.presence_penalty = 0.5f;
  if (draw.OneIn(4)) s.frequency_penalty = 0.3f;
  if (draw.OneIn(4)) s.logit_bias[draw.Between(0, 255)] = 2.0f;
  // Nearly always: then not only tokens are compared, but bits.
  if (!draw.OneIn(8)) s.logprobs = draw.Between(0, 3);
  if (draw.OneIn(6)) s.prompt_logprobs = true;
  if (draw.OneIn(3)) s.seed = draw.Below(1000);
  if (draw.OneIn(4)) s.stop = {"e", "the"};
  s.ignore_eos = draw.OneIn(2);
  if (draw.OneIn(6)) s.n = draw.Between(1, 4);
  return request;
}

// The next turn of a conversation: what was asked, what was said, and more.
EngineRequest NextTurn(const EngineRequest& before,
                       const std::vector<Outcome>& said, uint32_t seed) {
  EngineRequest request = RandomRequest(seed);
  std::vector<int32_t> prompt = before.prompt;
  for (const TokenEvent& t : said[0].tokens) prompt.push_back(t.token);
  // 6 pages hold the longest prompt of this kind, and 40 tokens more.
  if (prompt.size() > 110) prompt.resize(110);
  const size_t more = std::min<size_t>(request.prompt.size(), 20);
  prompt.insert(prompt.end(), request.prompt.begin(),
                request.prompt.begin() + static_cast<std::ptrdiff_t>(more));
  request.prompt = std::move(prompt);
  return request;
}

struct Case {
  const char* name;
  TinyModelOptions model;
  bool reference_path = false;
};

// Every layer that a family of families/ has, windows shorter and longer than
// a page, and both paths.
const Case kCases[] = {
    {"llama", {.architecture = "llama"}},
    {"mistral", {.architecture = "llama", .window = 20}},
    {"qwen2", {.architecture = "qwen2"}},
    {"qwen3", {.architecture = "qwen3", .tied_embeddings = false}},
    {"gemma3", {.architecture = "gemma3", .window = 45}},
    {"mixtral", {.architecture = "mixtral"}},
    {"olmoe", {.architecture = "olmoe"}},
    {"qwen2moe", {.architecture = "qwen2moe"}},
    {"gemma3 reference", {.architecture = "gemma3", .window = 20}, true},
    {"qwen3 reference", {.architecture = "qwen3", .window = 45}, true},
};

int64_t PageBytes(const Case& c) {
  const auto lease = MakeTinyModel(c.model);
  const weights::ModelHyperparameters& m =
      lease->manifest().spec.hyperparameters;
  const KvShape shape = {
      .type = c.reference_path ? kernels::KvType::kF32 : kernels::KvType::kF16,
      .num_layers = m.num_layers,
      .num_kv_heads = m.num_kv_heads,
      .head_dim = m.head_dim};
  return shape.PageBytes();
}

// Requests and what they say alone: one thread, scalar, whole prompts at once,
// nothing remembered.
struct Known {
  std::vector<EngineRequest> requests;
  std::vector<std::string> transcripts;

  explicit Known(const Case& c) {
    const auto compute = Compute::Create(1);
    auto engine = Engine::Create(MakeTinyModel(c.model), MakeTinyTokenizer(),
                                 compute.get(),
                                 {.paced = false,
                                  .prefix_cache = false,
                                  .max_draft = 0,
                                  .reference_path = c.reference_path,
                                  .isa = "scalar"});
    EXPECT_TRUE(engine.ok());
    std::vector<std::vector<Outcome>> outcomes;
    for (uint32_t seed = 0; seed < kRequests; ++seed) {
      requests.push_back(seed % 3 == 2
                             ? NextTurn(requests.back(), outcomes.back(), seed)
                             : RandomRequest(seed));
      Collector collector(requests.back().sampling.n);
      EXPECT_TRUE((*engine)->Submit(requests.back(), collector.Sink()).ok());
      outcomes.push_back(collector.Wait());
      transcripts.push_back(Transcript(outcomes.back()));
    }
  }
};

// What the trials met; a property that nothing tested is not tested.
struct Met {
  int64_t requests = 0;
  int64_t hits = 0;
  int64_t tokens_saved = 0;
  int64_t evictions = 0;
  int64_t preemptions = 0;
  int64_t guessed_right = 0;
  int64_t logprobs = 0;             // compared, bit for bit
  int64_t drafted = 0;              // trials with a draft model
  int64_t drafts_right = 0;         // guesses of these trials, looked up or not
  std::map<std::string, int> isas;  // trials on each instruction set
};

class Trial {
 public:
  Trial(const Known& known, const Case& c, uint32_t seed)
      : known_(known),
        page_bytes_(PageBytes(c)),
        reference_(c.reference_path),
        draw_(seed) {
    compute_ = Compute::Create(draw_.Between(1, 3));
    options_.reference_path = c.reference_path;
    // The largest request needs 6 pages.
    options_.kv_budget_bytes = draw_.Between(6, 26) * page_bytes_;
    options_.max_batch = draw_.Between(1, 10);
    options_.prefill_chunk = draw_.Between(1, 200);
    options_.paced = draw_.OneIn(3);
    options_.max_draft = draw_.Between(0, 12);
    options_.prefix_cache = !draw_.OneIn(8);
    const std::vector<kernels::Isa> isas = kernels::SupportedIsas();
    // The first is scalar, and slow: now and then.
    const auto others = static_cast<uint32_t>(isas.size() - 1);
    const bool scalar = draw_.OneIn(12) || others == 0;
    options_.isa = kernels::IsaName(isas[scalar ? 0 : 1 + draw_.Below(others)]);
    std::unique_ptr<weights::ModelLease> draft;
    if (options_.max_draft > 0 && draw_.OneIn(3)) draft = MakeDraft(c);
    auto engine = Engine::Create(MakeTinyModel(c.model), MakeTinyTokenizer(),
                                 compute_.get(), options_, std::move(draft));
    EXPECT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  // Requests in any order, some more than once, some beside one that is
  // cancelled on the way, by several tenants.
  void Run() {
    const int32_t count = draw_.Between(1, 14);
    for (int32_t i = 0; i < count; ++i) {
      if (draw_.OneIn(6)) SubmitPassing();
      const uint32_t which = draw_.Below(kRequests);
      EngineRequest request = known_.requests[which];
      request.tenant = "tenant " + std::to_string(draw_.Below(3));
      which_.push_back(which);
      collectors_.push_back(std::make_unique<Collector>(request.sampling.n));
      const auto ticket = engine_->Submit(request, collectors_.back()->Sink());
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      if (draw_.OneIn(3)) collectors_.back()->WaitForTokens(draw_.Below(5));
      if (draw_.OneIn(6)) collectors_.back()->Wait();
    }
    for (const uint64_t ticket : passing_tickets_) engine_->Cancel(ticket);
    for (size_t i = 0; i < collectors_.size(); ++i) {
      const std::vector<Outcome>& outcomes = collectors_[i]->Wait();
      const std::string said = Transcript(outcomes);
      if (known_.requests[which_[i]].sampling.logprobs >= 0) {
        for (const Outcome& outcome : outcomes) {
          logprobs_ += static_cast<int64_t>(outcome.tokens.size());
        }
      }
      ASSERT_FALSE(collectors_[i]->broken());
      ASSERT_EQ(said, known_.transcripts[which_[i]])
          << "request " << which_[i] << " " << Describe();
    }
    for (auto& collector : passing_) collector->Wait();
  }

  void Count(Met& met) const {
    const EngineStats stats = engine_->Stats();
    met.requests += static_cast<int64_t>(collectors_.size());
    met.hits += stats.prefix.hits;
    met.tokens_saved += stats.prefix.tokens_saved;
    met.evictions += stats.prefix.evicted_pages;
    met.preemptions += stats.preemptions;
    met.guessed_right += stats.accepted_tokens;
    ++met.isas[reference_ ? "reference" : options_.isa];
    met.logprobs += logprobs_;
    if (!has_draft_) return;
    ++met.drafted;
    met.drafts_right += stats.accepted_tokens;
  }

 private:
  // The model itself, which is mostly right, or another one, which is not; one
  // that has fewer tokens now and then. Its cache comes on top of the trial's.
  std::unique_ptr<weights::ModelLease> MakeDraft(const Case& c) {
    has_draft_ = true;
    // Measured times would seldom let such a short run ask it.
    options_.paced = false;
    TinyModelOptions model = c.model;
    if (draw_.OneIn(3)) model = {.architecture = "llama", .seed = 2};
    if (draw_.OneIn(4)) model.missing_tokens = 5;
    const auto type =
        c.reference_path ? kernels::KvType::kF32 : kernels::KvType::kF16;
    const auto target = MakeTinyModel(c.model);
    const auto sample =
        DraftModel::Create(MakeTinyModel(model), target->manifest(),
                           kernels::FastOps(), type, options_.max_draft);
    EXPECT_TRUE(sample.ok()) << sample.status();
    options_.kv_budget_bytes += (*sample)->kv_bytes();
    return MakeTinyModel(model);
  }

  void SubmitPassing() {
    EngineRequest request = known_.requests[draw_.Below(kRequests)];
    request.sampling.max_tokens = 30;
    request.sampling.n = 1;
    request.tenant = "tenant " + std::to_string(draw_.Below(3));
    passing_.push_back(std::make_unique<Collector>(1));
    const auto ticket = engine_->Submit(request, passing_.back()->Sink());
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    if (draw_.OneIn(2)) {
      engine_->Cancel(*ticket);
    } else {
      passing_tickets_.push_back(*ticket);
    }
  }

  std::string Describe() const {
    return fmt::format(
        "pages {} batch {} chunk {} paced {} prefixes {} isa {} "
        "threads {} draft model {}",
        options_.kv_budget_bytes / page_bytes_, options_.max_batch,
        options_.prefill_chunk, options_.paced, options_.prefix_cache,
        options_.isa, compute_->threads(), has_draft_);
  }

  const Known& known_;
  const int64_t page_bytes_;
  const bool reference_;
  bool has_draft_ = false;
  int64_t logprobs_ = 0;
  Draw draw_;
  EngineOptions options_;
  std::vector<uint32_t> which_;
  std::vector<std::unique_ptr<Collector>> collectors_, passing_;
  std::vector<uint64_t> passing_tickets_;
  std::unique_ptr<Compute> compute_;
  std::unique_ptr<Engine> engine_;  // goes first
};

TEST(InvarianceTest, SameBitsInAnyCompany) {
  const int trials = FromEnvironment("CONCLAVE_TRIALS", 300);
  ASSERT_GT(trials, 0) << "CONCLAVE_TRIALS: nothing would be tested";
  const int first = FromEnvironment("CONCLAVE_FIRST_TRIAL", 0);
  Met met;
  const int cases = static_cast<int>(std::size(kCases));
  for (int n = 0; n < cases; ++n) {
    const Case& c = kCases[n];
    const int each = trials / cases + (n < trials % cases ? 1 : 0);
    const Known known(c);
    for (int i = first; i < first + each; ++i) {
      SCOPED_TRACE(fmt::format("{} trial {}", c.name, i));
      // Other draws for every case.
      Trial trial(known, c, static_cast<uint32_t>(i * cases + n));
      trial.Run();
      if (HasFatalFailure()) return;
      trial.Count(met);
    }
  }
  std::printf(
      "%d trials, %lld requests: %lld found a beginning (%lld tokens), "
      "%lld pages were evicted, %lld sequences preempted, %lld guesses right\n",
      trials, static_cast<long long>(met.requests),
      static_cast<long long>(met.hits),
      static_cast<long long>(met.tokens_saved),
      static_cast<long long>(met.evictions),
      static_cast<long long>(met.preemptions),
      static_cast<long long>(met.guessed_right));
  std::string isas;
  for (const auto& [isa, count] : met.isas) {
    isas += fmt::format(" {} {}", isa, count);
  }
  std::printf(
      "%lld log-probabilities were the same bits; trials on:%s (this processor "
      "has %s); %lld with a draft model, %lld guesses right there\n",
      static_cast<long long>(met.logprobs), isas.c_str(),
      std::string(kernels::IsaName(kernels::BestIsa())).c_str(),
      static_cast<long long>(met.drafted),
      static_cast<long long>(met.drafts_right));
  EXPECT_GT(met.logprobs, 0);
  if (trials >= 300) {
    for (const kernels::Isa isa : kernels::SupportedIsas()) {
      EXPECT_GT(met.isas[std::string(kernels::IsaName(isa))], 0)
          << "no trial ran on " << kernels::IsaName(isa);
    }
    EXPECT_GT(met.drafted, trials / 5);
    EXPECT_GT(met.drafts_right, met.drafted);
    EXPECT_GT(met.hits, trials);
    EXPECT_GT(met.evictions, trials);
    // How often depends on what arrives while a step runs: 78 to 100 of 300.
    EXPECT_GT(met.preemptions, trials / 10);
    EXPECT_GT(met.guessed_right, trials);
  }
}

}  // namespace
}  // namespace conclave::engine
