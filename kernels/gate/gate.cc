#include "kernels/gate/gate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/logits_math.h"

namespace conclave::kernels {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool AllFinite(const float* x, size_t n) {
  bool finite = true;
  for (size_t i = 0; i < n; ++i) {
    finite &= std::abs(x[i]) <= std::numeric_limits<float>::max();
  }
  return finite;
}

std::string_view Describe(RejectedToken::Reason reason) {
  switch (reason) {
    case RejectedToken::Reason::kNotFinite:
      return "its logits are not finite";
    case RejectedToken::Reason::kNoExpertLeft:
      return "no expert is left to it";
    case RejectedToken::Reason::kBadTuning:
      break;
  }
  return "its request's tuning is wrong";
}

bool ChoosesAll(const GateConfig& config) {
  return config.select == SelectKind::kAll ||
         config.select == SelectKind::kExpertChoice;
}

}  // namespace

int64_t NumLogitRows(const GateConfig& config, int64_t num_tokens,
                     std::span<const GateSequence> sequences) {
  if (!config.scores_sequences()) return num_tokens;
  if (sequences.empty()) return num_tokens > 0 ? 1 : 0;
  return static_cast<int64_t>(sequences.size());
}

absl::StatusOr<Gate> Gate::Create(const GateConfig& config,
                                  std::span<const float> correction) {
  RETURN_IF_ERROR(ValidateGateConfig(config));
  if (!correction.empty()) {
    if (config.score != ScoreKind::kSigmoid) {
      return InvalidArgument("a correction goes with gate.score=sigmoid");
    }
    if (static_cast<int64_t>(correction.size()) != config.num_columns()) {
      return InvalidArgument("{} corrections for {} experts", correction.size(),
                             config.num_columns());
    }
    if (!AllFinite(correction.data(), correction.size())) {
      return InvalidArgument("a correction is not finite");
    }
  }
  return Gate(config, correction);
}

Gate::Gate(const GateConfig& config, std::span<const float> correction)
    : config_(config),
      correction_(correction.begin(), correction.end()),
      score_(&ScoreStageOf(config.score)),
      choose_(ChoosesAll(config) ? ChooseAll : ChooseRanked) {
  const auto columns = static_cast<size_t>(config.num_columns());
  const auto experts = static_cast<size_t>(config.num_experts);
  virtual_of_.assign(columns, -1);
  phys_.resize(experts);
  num_physical_ = 0;
  for (size_t e = 0; e < experts; ++e) {
    phys_[e] = config.alias.empty() ? static_cast<int32_t>(e) : config.alias[e];
    const auto first = std::find(phys_.begin(), phys_.begin() + e, phys_[e]);
    virtual_of_[e] = static_cast<int32_t>(first - phys_.begin());
    num_physical_ += virtual_of_[e] == static_cast<int32_t>(e);
  }
  adjusted_.resize(columns);
  adjustment_.resize(columns);
  keys_.resize(columns);
  odds_.resize(columns);
  chosen_.resize(columns);
  choices_.reserve(columns);
  row_.keys = keys_;
  row_.odds = odds_;
}

absl::Status Gate::CheckInput(const GateInput& input) const {
  const int64_t t = input.num_tokens;
  const int64_t rows = NumLogitRows(config_, t, input.sequences);
  if (t < 0 ||
      t > std::numeric_limits<int32_t>::max() / config_.num_columns()) {
    return InvalidArgument("{} tokens over {} experts", t,
                           config_.num_columns());
  }
  if (static_cast<int64_t>(input.logits.size()) !=
      rows * config_.num_columns()) {
    return InvalidArgument("{} logits for {} rows of {}", input.logits.size(),
                           rows, config_.num_columns());
  }
  if (!input.valid.empty() && static_cast<int64_t>(input.valid.size()) != t) {
    return InvalidArgument("valid has {} entries for {} tokens",
                           input.valid.size(), t);
  }
  if (!input.pre.empty() && static_cast<int64_t>(input.pre.size()) !=
                                t * config_.num_experts * config_.d_low) {
    return InvalidArgument("pre has {} values for {} tokens, {} experts of {}",
                           input.pre.size(), t, config_.num_experts,
                           config_.d_low);
  }
  int64_t next = 0;
  for (const GateSequence& s : input.sequences) {
    if (s.begin < next || s.end < s.begin || s.end > t) {
      return InvalidArgument("sequence [{}, {}) after {}, of {} tokens",
                             s.begin, s.end, next, t);
    }
    next = s.end;
  }
  return absl::OkStatus();
}

absl::Status Gate::Route(const GateInput& input, RoutingPlan* plan) {
  RETURN_IF_ERROR(CheckInput(input));
  GateInput call = input;
  if (call.sequences.empty()) {
    whole_.assign(1, {.begin = 0, .end = call.num_tokens});
    call.sequences = whole_;
  }
  detailed_ = call.detailed_stats;
  num_scored_ = 0;
  assignments_.clear();
  priority_.clear();
  plan->rejected.clear();
  plan->mix.clear();
  plan->pre.clear();
  plan->residual_wt.clear();
  RoutingStats& stats = plan->stats;
  stats.dropped = 0;
  stats.null_count = 0;
  stats.entropy = 0;
  stats.prob_mean.assign(
      detailed_ ? static_cast<size_t>(config_.num_columns()) : 0, 0.0);
  counted_.assign(static_cast<size_t>(call.num_tokens), 0);
  if (config_.select == SelectKind::kSoftMerge) {
    plan->mix.assign(
        call.sequences.size() * static_cast<size_t>(config_.num_experts), 0.0f);
  }
  for (size_t s = 0; s < call.sequences.size(); ++s) {
    RouteSequence(call, call.sequences[s], s, plan);
  }
  Finish(call, plan);
  if (plan->rejected.empty()) return absl::OkStatus();
  const RejectedToken& first = plan->rejected.front();
  return InvalidArgument("token {} cannot be routed: {} ({} such tokens)",
                         first.token, Describe(first.reason),
                         plan->rejected.size());
}

void Gate::RouteSequence(const GateInput& input, const GateSequence& sequence,
                         size_t index, RoutingPlan* plan) {
  const bool tuned = sequence.tuning != nullptr;
  const bool bad_tuning =
      tuned && !CheckGateTuning(config_, *sequence.tuning).ok();
  SelectLimits limits;
  if (!bad_tuning) {
    limits = LimitsOf(sequence.tuning);
    if (tuned) SetAdjustment(*sequence.tuning);
  }
  bool have_row = false;  // of a whole sequence
  Reason reason = Reason::kBadTuning;
  for (int64_t t = sequence.begin; t < sequence.end; ++t) {
    if (!input.valid.empty() && input.valid[static_cast<size_t>(t)] == 0) {
      continue;
    }
    bool good = !bad_tuning;
    if (good && !have_row) {
      const size_t row =
          config_.scores_sequences() ? index : static_cast<size_t>(t);
      good = ScoreRow(input.logits.data() +
                          row * static_cast<size_t>(config_.num_columns()),
                      tuned, &reason);
      if (good && config_.select == SelectKind::kSoftMerge) {
        Merge(index, plan);
      } else if (good) {
        ChooseRow(limits, plan);
      }
      have_row = good && config_.scores_sequences();
      if (good && detailed_) {
        ++num_scored_;
        for (size_t c = 0; c < odds_.size(); ++c) {
          plan->stats.prob_mean[c] += odds_[c] / row_.total;
        }
        double sum = 0;
        for (const double odds : odds_) sum += odds;
        for (const double odds : odds_) {
          if (odds > 0)
            plan->stats.entropy -= odds / sum * std::log(odds / sum);
        }
      }
    }
    if (!good) {
      plan->rejected.push_back({t, reason});
      continue;
    }
    counted_[static_cast<size_t>(t)] = 1;
    Assign(t);
  }
}

bool Gate::ScoreRow(const float* logits, bool tuned, Reason* reason) {
  const size_t n = keys_.size();
  *reason = Reason::kNotFinite;
  if (!AllFinite(logits, n)) return false;
  row_.logits = {logits, n};
  if (tuned) {
    bool open = false;
    for (size_t c = 0; c < n; ++c) {
      adjusted_[c] = logits[c] + adjustment_[c];
      if (adjusted_[c] == std::numeric_limits<float>::infinity()) return false;
      open |= adjusted_[c] != kNever;
    }
    *reason = Reason::kNoExpertLeft;
    if (!open) return false;
    row_.logits = adjusted_;
  }
  score_->score(correction_, &row_);
  return true;
}

void Gate::ChooseRow(const SelectLimits& limits, RoutingPlan* plan) {
  RestrictToGroups(config_, keys_);
  const auto count = static_cast<size_t>(choose_(limits, row_, chosen_));
  Weigh(std::span<const int32_t>(chosen_).first(count));
  if (config_.num_null > 0) {
    for (size_t i = 0; i < count; ++i) {
      plan->stats.null_count += chosen_[i] >= config_.num_experts;
    }
  }
}

void Gate::Weigh(std::span<const int32_t> chosen) {
  choices_.clear();
  double real = 0;
  double rescale = 1;
  const bool renorm = config_.weight == WeightKind::kRenorm;
  float best = kNever;
  if (renorm) {
    for (const int32_t c : chosen) {
      if (c >= config_.num_experts) continue;
      real += odds_[static_cast<size_t>(c)];
      best = std::max(best, row_.logits[static_cast<size_t>(c)]);
    }
  }
  for (size_t i = 0; i < chosen.size(); ++i) {
    const auto c = static_cast<size_t>(chosen[i]);
    const int32_t expert = virtual_of_[c];
    if (expert < 0) continue;
    const double share = score_->share(row_, chosen, i, config_.jitter);
    double weight = share;
    if (renorm && real > 0) {
      weight = odds_[c] / real;
    } else if (renorm) {
      // Every real one chosen is below exp(-700) of a null's: their own
      // softmax, whose total follows below.
      ExpWeights({&row_.logits[c], 1}, best, 1.0, &weight);
      rescale = 0;
    } else if (config_.weight == WeightKind::kOne) {
      weight = 1;
    } else if (config_.weight == WeightKind::kSigmoidResidual) {
      weight = Sigmoid(double{row_.logits[c]});
    }
    const auto same =
        config_.alias.empty()
            ? choices_.end()
            : std::find_if(choices_.begin(), choices_.end(),
                           [&](const Choice& o) { return o.expert == expert; });
    if (same == choices_.end()) {
      choices_.push_back({expert, share, weight});
    } else {
      same->share += share;
      same->weight += weight;
    }
  }
  if (rescale == 0) {
    double total = 0;
    for (const Choice& choice : choices_) total += choice.weight;
    rescale = 1 / total;
  }
  rescale *= config_.weight_scale;
  if (rescale == 1) return;
  for (Choice& choice : choices_) choice.weight *= rescale;
}

void Gate::Assign(int64_t token) {
  for (const Choice& choice : choices_) {
    assignments_.push_back({static_cast<int32_t>(token), choice.expert,
                            static_cast<float>(choice.weight)});
    priority_.push_back(choice.share);
  }
}

void Gate::Merge(size_t sequence, RoutingPlan* plan) {
  choices_.assign(1, {static_cast<int32_t>(sequence), 1.0, 1.0});
  float* mix =
      plan->mix.data() + sequence * static_cast<size_t>(config_.num_experts);
  for (size_t e = 0; e < odds_.size(); ++e) {
    mix[virtual_of_[e]] += static_cast<float>(odds_[e] / row_.total);
  }
}

SelectLimits Gate::LimitsOf(const GateTuning* tuning) const {
  SelectLimits limits;
  limits.k = config_.k;
  if (config_.select == SelectKind::kTopP) {
    limits.k = config_.k_max > 0 ? config_.k_max : config_.num_columns();
    limits.p = config_.p;
  }
  if (tuning != nullptr) {
    limits.k = tuning->k.value_or(limits.k);
    limits.p = tuning->top_p.value_or(limits.p);
    limits.force = tuning->force;
  }
  return limits;
}

void Gate::SetAdjustment(const GateTuning& tuning) {
  std::fill(adjustment_.begin(), adjustment_.end(), 0.0f);
  for (const auto& [id, bias] : tuning.bias) {
    adjustment_[static_cast<size_t>(id)] += bias;
  }
  for (const int32_t id : tuning.ban) {
    adjustment_[static_cast<size_t>(id)] = kNever;
  }
}

void Gate::MakeSegments(const GateInput& input) {
  const auto tokens = static_cast<size_t>(input.num_tokens);
  segments_.of_token.assign(tokens, 0);
  segments_.in_segment.assign(tokens, 0);
  segments_.size.assign(std::max<size_t>(input.sequences.size(), 1), 0);
  // A request's segment is named by its first sequence.
  requests_.clear();
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    requests_.push_back({input.sequences[s].request, static_cast<int32_t>(s)});
  }
  std::sort(requests_.begin(), requests_.end());
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    auto segment = static_cast<int32_t>(s);
    if (config_.capacity_scope == Scope::kBatch) segment = 0;
    if (config_.capacity_scope == Scope::kRequest) {
      segment =
          std::lower_bound(requests_.begin(), requests_.end(),
                           std::pair(input.sequences[s].request, int32_t{0}))
              ->second;
    }
    int64_t& size = segments_.size[static_cast<size_t>(segment)];
    for (int64_t t = input.sequences[s].begin; t < input.sequences[s].end;
         ++t) {
      const auto i = static_cast<size_t>(t);
      if (counted_[i] == 0) continue;
      segments_.of_token[i] = segment;
      segments_.in_segment[i] = static_cast<int32_t>(size++);
    }
  }
}

void Gate::Finish(const GateInput& input, RoutingPlan* plan) {
  RoutingStats& stats = plan->stats;
  stats.effective_scope = caps().scope;
  if (stats.effective_scope == Scope::kBatch) {
    const auto other = [&](const GateSequence& s) {
      return s.request != input.sequences.front().request;
    };
    if (std::ranges::none_of(input.sequences, other)) {
      stats.effective_scope = Scope::kRequest;
    }
  }
  const bool by_score = config_.select == SelectKind::kExpertChoice ||
                        config_.select == SelectKind::kPatchSelect;
  if (by_score || config_.capacity == CapacityMode::kDrop) {
    MakeSegments(input);
    const int64_t gone = capacity_.Keep(
        config_, by_score ? CapacityOrder::kPriority : config_.capacity_order,
        num_physical_, segments_, input.seed, priority_, &assignments_);
    // What experts do not choose is not dropped: nobody promised it.
    if (!by_score) stats.dropped = gone;
  }
  const bool merges = config_.select == SelectKind::kSoftMerge;
  const auto num_virtual = merges ? static_cast<int64_t>(input.sequences.size())
                                  : config_.num_experts;
  LayOut(assignments_, num_virtual, counted_, plan);
  plan->phys = phys_;
  if (merges) {
    plan->phys.resize(input.sequences.size());
    for (size_t s = 0; s < plan->phys.size(); ++s) {
      plan->phys[s] = static_cast<int32_t>(s);
    }
  }
  if (config_.weight == WeightKind::kSigmoidResidual) {
    plan->residual_wt.assign(static_cast<size_t>(input.num_tokens), 1.0f);
    for (const Assignment& a : assignments_) {
      plan->residual_wt[static_cast<size_t>(a.token)] = 1.0f - a.weight;
    }
  }
  if (!input.pre.empty()) {
    const auto d = static_cast<size_t>(config_.d_low);
    plan->pre.resize(plan->tok.size() * d);
    for (int64_t v = 0; v < num_virtual; ++v) {
      for (int64_t r = plan->off[static_cast<size_t>(v)];
           r < plan->off[static_cast<size_t>(v) + 1]; ++r) {
        const auto row = static_cast<size_t>(r);
        const auto at =
            static_cast<size_t>(plan->tok[row] * config_.num_experts + v);
        std::copy_n(input.pre.data() + at * d, d, plan->pre.data() + row * d);
      }
    }
  }
  if (num_scored_ > 0) {
    const auto n = static_cast<double>(num_scored_);
    for (double& mean : stats.prob_mean) mean /= n;
    stats.entropy /= n;
  }
}

}  // namespace conclave::kernels
