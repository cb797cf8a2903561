#include "kernels/gate/gate_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace conclave::kernels {
namespace {

// Beyond any model; products of these fit 64 bits, ids fit 32.
constexpr int64_t kMaxColumns = 1 << 20;

absl::Status CheckExperts(const GateConfig& c) {
  if (c.num_experts < 1 || c.num_experts > kMaxColumns) {
    return InvalidArgument("experts.n={}: 1..{}", c.num_experts, kMaxColumns);
  }
  if (c.num_null < 0 || c.num_columns() > kMaxColumns) {
    return InvalidArgument("null.n={}: 0..{}", c.num_null,
                           kMaxColumns - c.num_experts);
  }
  if (!c.alias.empty() &&
      static_cast<int64_t>(c.alias.size()) != c.num_experts) {
    return InvalidArgument("experts.alias has {} entries for experts.n={}",
                           c.alias.size(), c.num_experts);
  }
  for (const int32_t id : c.alias) {
    if (id < 0 || id >= c.num_experts) {
      return InvalidArgument("experts.alias={}: 0..{}", id, c.num_experts - 1);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckScorer(const GateConfig& c) {
  const bool sequences =
      c.select == SelectKind::kSeqSelect || c.select == SelectKind::kSoftMerge;
  if (c.scores_sequences() != sequences) {
    return InvalidArgument(
        "gate.scorer={} gives one score a {} and gate.select={} wants one a "
        "{}: seq_mean and seq_flat go with seq_select and soft_merge",
        Name(c.scorer), c.scores_sequences() ? "sequence" : "token",
        Name(c.select), sequences ? "sequence" : "token");
  }
  if (!std::isfinite(c.temp) || c.temp <= 0) {
    return InvalidArgument("gate.temp={}: above 0", c.temp);
  }
  if ((c.scorer == ScorerKind::kCosine || c.scorer == ScorerKind::kMlp) &&
      c.dim < 1) {
    return InvalidArgument("gate.scorer={} needs gate.dim above 0",
                           Name(c.scorer));
  }
  if (c.scorer == ScorerKind::kActNorm && c.d_low < 1) {
    return InvalidArgument("gate.scorer=act_norm needs experts.d_low above 0");
  }
  if (c.scorer == ScorerKind::kActNorm && c.num_null > 0) {
    return InvalidArgument(
        "gate.scorer=act_norm has no columns for null experts: null.n=0");
  }
  if ((c.ln_input || c.ln_weight) && c.scorer != ScorerKind::kSeqMean) {
    return InvalidArgument(
        "gate.ln_input and gate.ln_weight belong to gate.scorer=seq_mean");
  }
  return absl::OkStatus();
}

absl::Status CheckK(const GateConfig& c) {
  switch (c.select) {
    case SelectKind::kTopK:
    case SelectKind::kPatchSelect:
    case SelectKind::kSeqSelect:
      if (c.k < 1 || c.k > c.num_columns()) {
        return InvalidArgument(
            "gate.k={}: 1..{}, the experts and null experts there are", c.k,
            c.num_columns());
      }
      break;
    case SelectKind::kTopP:
      if (!(c.p >= 0) || c.p > 1) {
        return InvalidArgument("gate.p={}: 0..1", c.p);
      }
      if (c.k_max < 0 || c.k_max > c.num_columns()) {
        return InvalidArgument("gate.k_max={}: 0 (no limit)..{}", c.k_max,
                               c.num_columns());
      }
      break;
    case SelectKind::kExpertChoice:
    case SelectKind::kSoftMerge:
    case SelectKind::kAll:
      break;
  }
  if (c.select == SelectKind::kExpertChoice ||
      c.select == SelectKind::kPatchSelect) {
    if (!(c.cf > 0) || c.cf > 1e6 || c.min_capacity < 0) {
      return InvalidArgument(
          "gate.select={} needs gate.cf above 0 (have {}) and "
          "gate.min_capacity of at least 0 (have {})",
          Name(c.select), c.cf, c.min_capacity);
    }
    if (c.num_null > 0) {
      return InvalidArgument("gate.select={} and null experts: null.n=0",
                             Name(c.select));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckGroups(const GateConfig& c) {
  if (c.num_groups == 1 && c.keep_groups == 1) return absl::OkStatus();
  if (c.num_groups < 1 || c.num_groups > kMaxGroups ||
      c.num_experts % c.num_groups != 0) {
    return InvalidArgument("gate.groups={}: 1..{}, a divisor of experts.n={}",
                           c.num_groups, kMaxGroups, c.num_experts);
  }
  if (c.keep_groups < 1 || c.keep_groups > c.num_groups) {
    return InvalidArgument("gate.keep_groups={}: 1..{}", c.keep_groups,
                           c.num_groups);
  }
  const int64_t size = c.num_experts / c.num_groups;
  if (c.select != SelectKind::kTopK || c.num_null > 0) {
    return InvalidArgument("gate.groups goes with gate.select=topk, null.n=0");
  }
  if (c.k > c.keep_groups * size) {
    return InvalidArgument("gate.k={} of {} groups of {} experts", c.k,
                           c.keep_groups, size);
  }
  if (c.group_score == GroupScore::kSumTop2 &&
      (size < 2 || c.score != ScoreKind::kSigmoid)) {
    return InvalidArgument(
        "gate.group_score=sum_top2 needs groups of two experts or more and "
        "gate.score=sigmoid");
  }
  return absl::OkStatus();
}

absl::Status CheckWeight(const GateConfig& c) {
  if (!std::isfinite(c.weight_scale) || c.weight_scale <= 0) {
    return InvalidArgument("gate.weight_scale={}: above 0", c.weight_scale);
  }
  if (c.weight == WeightKind::kSigmoidResidual &&
      (c.select != SelectKind::kTopK || c.k != 1 || c.num_null > 0 ||
       c.weight_scale != 1.0)) {
    return InvalidArgument(
        "gate.weight=sigmoid_residual mixes one expert with x: "
        "gate.select=topk, gate.k=1, null.n=0, gate.weight_scale=1");
  }
  if (c.weight == WeightKind::kRenorm &&
      c.select == SelectKind::kExpertChoice) {
    return InvalidArgument(
        "gate.weight=renorm and gate.select=expert_choice: a token does not "
        "choose, there is nothing to make sum to 1; use raw");
  }
  if (c.select == SelectKind::kSoftMerge &&
      (c.weight != WeightKind::kRaw || c.weight_scale != 1.0 ||
       c.num_null > 0)) {
    return InvalidArgument(
        "gate.select=soft_merge weighs weights, not results: gate.weight=raw, "
        "gate.weight_scale=1, null.n=0");
  }
  if (c.score == ScoreKind::kSparsemixer &&
      (c.select != SelectKind::kTopK || c.weight != WeightKind::kRaw ||
       c.num_null > 0 || !(c.jitter > 0))) {
    return InvalidArgument(
        "gate.score=sparsemixer weighs each choice among what is left: "
        "gate.select=topk, gate.weight=raw, null.n=0, gate.jitter above 0");
  }
  return absl::OkStatus();
}

bool UsesSegments(const GateConfig& c) {
  return c.capacity == CapacityMode::kDrop ||
         c.select == SelectKind::kExpertChoice ||
         c.select == SelectKind::kPatchSelect;
}

absl::Status CheckCapacity(const GateConfig& c) {
  if (c.capacity == CapacityMode::kDrop) {
    if (!(c.capacity_factor > 0) || c.capacity_factor > 1e6) {
      return InvalidArgument("capacity.mode=drop needs capacity.cf above 0");
    }
    if (c.select != SelectKind::kTopK &&
        !(c.select == SelectKind::kTopP && c.k_max > 0)) {
      return InvalidArgument(
          "capacity.mode=drop needs to know how many a token chooses: "
          "gate.select=topk, or topp with gate.k_max");
    }
  }
  if (!UsesSegments(c)) return absl::OkStatus();
  if (c.capacity_scope == Scope::kToken) {
    return InvalidArgument(
        "capacity.scope=token: sequence, request or batch share a capacity");
  }
  if (c.capacity_scope == Scope::kBatch && !c.allow_cross_request) {
    return InvalidArgument(
        "capacity.scope=batch lets one request's tokens push another's out of "
        "an expert (arXiv 2402.05526); use capacity.mode=dropless or "
        "capacity.scope=request, or, for experiments, "
        "security.allow_cross_request=true");
  }
  return absl::OkStatus();
}

template <typename Kind, size_t n>
using Names = std::array<std::pair<std::string_view, Kind>, n>;

constexpr Names<ScorerKind, 7> kScorers = {
    {{"linear", ScorerKind::kLinear},
     {"cosine", ScorerKind::kCosine},
     {"mlp", ScorerKind::kMlp},
     {"act_norm", ScorerKind::kActNorm},
     {"domain_proj", ScorerKind::kDomainProj},
     {"seq_mean", ScorerKind::kSeqMean},
     {"seq_flat", ScorerKind::kSeqFlat}}};
constexpr Names<ScoreKind, 3> kScores = {
    {{"softmax", ScoreKind::kSoftmax},
     {"sigmoid", ScoreKind::kSigmoid},
     {"sparsemixer", ScoreKind::kSparsemixer}}};
constexpr Names<SelectKind, 7> kSelects = {
    {{"topk", SelectKind::kTopK},
     {"topp", SelectKind::kTopP},
     {"expert_choice", SelectKind::kExpertChoice},
     {"patch_select", SelectKind::kPatchSelect},
     {"seq_select", SelectKind::kSeqSelect},
     {"soft_merge", SelectKind::kSoftMerge},
     {"all", SelectKind::kAll}}};
constexpr Names<WeightKind, 4> kWeights = {
    {{"raw", WeightKind::kRaw},
     {"renorm", WeightKind::kRenorm},
     {"one", WeightKind::kOne},
     {"sigmoid_residual", WeightKind::kSigmoidResidual}}};
constexpr Names<GroupScore, 2> kGroupScores = {
    {{"max", GroupScore::kMax}, {"sum_top2", GroupScore::kSumTop2}}};
constexpr Names<CapacityMode, 2> kModes = {
    {{"dropless", CapacityMode::kDropless}, {"drop", CapacityMode::kDrop}}};
constexpr Names<CapacityOrder, 3> kOrders = {
    {{"index", CapacityOrder::kIndex},
     {"priority", CapacityOrder::kPriority},
     {"random", CapacityOrder::kRandom}}};
constexpr Names<Scope, 4> kScopes = {{{"token", Scope::kToken},
                                      {"sequence", Scope::kSequence},
                                      {"request", Scope::kRequest},
                                      {"batch", Scope::kBatch}}};

template <typename Kind, size_t n>
std::string_view NameIn(const Names<Kind, n>& names, Kind kind) {
  for (const auto& [name, value] : names) {
    if (value == kind) return name;
  }
  return "?";
}

absl::Status Read(std::string_view text, int64_t* out) {
  // from_chars takes no leading plus or space, and knows overflow.
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), *out);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument("not a whole number");
  }
  return absl::OkStatus();
}

absl::Status Read(std::string_view text, double* out) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), *out);
  if (error != std::errc() || end != text.data() + text.size() ||
      !std::isfinite(*out)) {
    return InvalidArgument("not a number");
  }
  return absl::OkStatus();
}

absl::Status Read(std::string_view text, float* out) {
  double value = 0;
  RETURN_IF_ERROR(Read(text, &value));
  *out = static_cast<float>(value);
  return absl::OkStatus();
}

absl::Status Read(std::string_view text, bool* out) {
  if (text != "true" && text != "false") {
    return InvalidArgument("true or false");
  }
  *out = text == "true";
  return absl::OkStatus();
}

absl::Status Read(std::string_view text, std::vector<int32_t>* out) {
  out->clear();
  while (!text.empty()) {
    const size_t comma = text.find(',');
    int64_t id = 0;
    RETURN_IF_ERROR(Read(text.substr(0, comma), &id));
    if (id < 0 || id >= kMaxColumns) return InvalidArgument("no such expert");
    out->push_back(static_cast<int32_t>(id));
    text = comma == text.npos ? "" : text.substr(comma + 1);
  }
  return absl::OkStatus();
}

template <typename Kind, size_t n>
absl::Status ReadName(const Names<Kind, n>& names, std::string_view text,
                      Kind* out) {
  std::string known;
  for (const auto& [name, value] : names) {
    if (name == text) {
      *out = value;
      return absl::OkStatus();
    }
    known += known.empty() ? "" : ", ";
    known += name;
  }
  return InvalidArgument("one of {}", known);
}

struct Key {
  std::string_view name;
  absl::Status (*read)(std::string_view text, GateConfig* config);
};

template <auto member>
absl::Status ReadMember(std::string_view text, GateConfig* config) {
  return Read(text, &(config->*member));
}
template <const auto& names, auto member>
absl::Status ReadNamed(std::string_view text, GateConfig* config) {
  return ReadName(names, text, &(config->*member));
}

constexpr Key kKeys[] = {
    {"experts.n", ReadMember<&GateConfig::num_experts>},
    {"experts.alias", ReadMember<&GateConfig::alias>},
    {"experts.d_low", ReadMember<&GateConfig::d_low>},
    {"null.n", ReadMember<&GateConfig::num_null>},
    {"gate.scorer", ReadNamed<kScorers, &GateConfig::scorer>},
    {"gate.temp", ReadMember<&GateConfig::temp>},
    {"gate.dim", ReadMember<&GateConfig::dim>},
    {"gate.ln_input", ReadMember<&GateConfig::ln_input>},
    {"gate.ln_weight", ReadMember<&GateConfig::ln_weight>},
    {"gate.score", ReadNamed<kScores, &GateConfig::score>},
    {"gate.jitter", ReadMember<&GateConfig::jitter>},
    {"gate.select", ReadNamed<kSelects, &GateConfig::select>},
    {"gate.k", ReadMember<&GateConfig::k>},
    {"gate.p", ReadMember<&GateConfig::p>},
    {"gate.k_max", ReadMember<&GateConfig::k_max>},
    {"gate.cf", ReadMember<&GateConfig::cf>},
    {"gate.min_capacity", ReadMember<&GateConfig::min_capacity>},
    {"gate.groups", ReadMember<&GateConfig::num_groups>},
    {"gate.keep_groups", ReadMember<&GateConfig::keep_groups>},
    {"gate.group_score", ReadNamed<kGroupScores, &GateConfig::group_score>},
    {"gate.weight", ReadNamed<kWeights, &GateConfig::weight>},
    {"gate.weight_scale", ReadMember<&GateConfig::weight_scale>},
    {"capacity.mode", ReadNamed<kModes, &GateConfig::capacity>},
    {"capacity.cf", ReadMember<&GateConfig::capacity_factor>},
    {"capacity.order", ReadNamed<kOrders, &GateConfig::capacity_order>},
    {"capacity.scope", ReadNamed<kScopes, &GateConfig::capacity_scope>},
    {"security.allow_cross_request",
     ReadMember<&GateConfig::allow_cross_request>},
};

std::string KnownKeys() {
  std::string known;
  for (const Key& key : kKeys) {
    known += known.empty() ? "" : ", ";
    known += key.name;
  }
  return known;
}

absl::Status ReadWord(std::string_view word, GateConfig* config) {
  const size_t equals = word.find('=');
  std::string_view name = word.substr(0, equals);
  if (name.starts_with("moe.")) name.remove_prefix(4);
  if (equals == word.npos) {
    return InvalidArgument("\"{}\" is not KEY=VALUE", word);
  }
  for (const Key& key : kKeys) {
    if (key.name != name) continue;
    return Annotate(key.read(word.substr(equals + 1), config), word);
  }
  return InvalidArgument("no key \"{}\"; there are {}", name, KnownKeys());
}

}  // namespace

absl::Status ValidateGateConfig(const GateConfig& config) {
  for (const auto check : {CheckExperts, CheckScorer, CheckK, CheckGroups,
                           CheckWeight, CheckCapacity}) {
    RETURN_IF_ERROR(check(config));
  }
  return absl::OkStatus();
}

absl::StatusOr<GateConfig> ParseGateKeys(std::string_view text,
                                         const GateConfig& base) {
  constexpr std::string_view kSpace = " \t\r\n";
  GateConfig config = base;
  size_t begin = text.find_first_not_of(kSpace);
  while (begin != text.npos) {
    const size_t end = std::min(text.find_first_of(kSpace, begin), text.size());
    RETURN_IF_ERROR(ReadWord(text.substr(begin, end - begin), &config));
    begin = text.find_first_not_of(kSpace, end);
  }
  return config;
}

absl::StatusOr<GateConfig> ParseGateConfig(std::string_view text) {
  ASSIGN_OR_RETURN(const GateConfig config, ParseGateKeys(text));
  RETURN_IF_ERROR(ValidateGateConfig(config));
  return config;
}

std::string_view Name(ScorerKind kind) { return NameIn(kScorers, kind); }
std::string_view Name(ScoreKind kind) { return NameIn(kScores, kind); }
std::string_view Name(SelectKind kind) { return NameIn(kSelects, kind); }
std::string_view Name(WeightKind kind) { return NameIn(kWeights, kind); }
std::string_view Name(CapacityOrder order) { return NameIn(kOrders, order); }
std::string_view Name(Scope scope) { return NameIn(kScopes, scope); }

}  // namespace conclave::kernels
