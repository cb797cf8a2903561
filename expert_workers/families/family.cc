#include "expert_workers/families/family.h"

#include "expert_workers/families/decoder_tensors.h"

namespace conclave::families {

// Each in its own file.
extern const Family kBert, kGemma3, kLlama, kMixtral, kOlmoe, kQwen2, kQwen2Moe,
    kQwen3, kQwen3Moe;

namespace {

constexpr const Family* kFamilies[] = {&kBert,     &kGemma3, &kLlama,
                                       &kMixtral,  &kOlmoe,  &kQwen2,
                                       &kQwen2Moe, &kQwen3,  &kQwen3Moe};

constexpr int64_t kMaxTokenTypes = 16;

class RuleCollector final : public TensorList {
 public:
  void Add(const TensorRule& rule, kernels::PackedMatrix*) override {
    rules.push_back(rule);
  }
  void Add(const TensorRule& rule, const float**) override {
    rules.push_back(rule);
  }
  std::vector<TensorRule> rules;
};

void Append(std::string_view name, std::string* list) {
  if (!list->empty()) *list += ", ";
  *list += name;
}

}  // namespace

const Family* FindFamily(std::string_view architecture) {
  for (const Family* family : kFamilies) {
    if (family->architecture == architecture) return family;
  }
  return nullptr;
}

const Family* FindGgufFamily(std::string_view architecture, bool has_experts) {
  for (const Family* family : kFamilies) {
    const std::string_view name = family->gguf_architecture.empty()
                                      ? family->architecture
                                      : family->gguf_architecture;
    if (family->in_gguf && name == architecture &&
        (family->list_expert != nullptr) == has_experts) {
      return family;
    }
  }
  return nullptr;
}

NamedFamily FindHuggingFaceFamily(std::string_view name) {
  for (const Family* family : kFamilies) {
    for (const HuggingFaceName& known : family->hugging_face) {
      if (known.name == name) return {family, &known};
    }
  }
  return {};
}

std::string GgufArchitectures() {
  std::string list;
  for (const Family* family : kFamilies) {
    if (family->in_gguf) Append(family->architecture, &list);
  }
  return list;
}

std::string DecoderArchitectures() {
  std::string list;
  for (const Family* family : kFamilies) {
    if (family->new_layer != nullptr) Append(family->architecture, &list);
  }
  return list;
}

std::string HuggingFaceArchitectures() {
  std::string list;
  for (const Family* family : kFamilies) {
    for (const HuggingFaceName& known : family->hugging_face) {
      Append(known.name, &list);
    }
  }
  return list;
}

std::vector<TensorRule> RulesOf(void (*list)(TensorList& tensors)) {
  RuleCollector collector;
  if (list != nullptr) list(collector);
  return std::move(collector.rules);
}

std::vector<TensorRule> ExpertRules(const Family& family) {
  RuleCollector collector;
  ExpertTensors expert;
  if (family.list_expert != nullptr) family.list_expert(collector, &expert);
  return std::move(collector.rules);
}

bool MayBeAbsent(const TensorRule& rule,
                 const weights::ModelHyperparameters& model) {
  if (rule.shared_expert) return model.moe.shared_intermediate_size == 0;
  return rule.optional;
}

int64_t Extent(Side side, const weights::ModelHyperparameters& model) {
  switch (side) {
    case Side::kOne:
      return 1;
    case Side::kHidden:
      return model.hidden_size;
    case Side::kQuery:
      return model.num_heads * model.head_dim;
    case Side::kKeyValue:
      return model.num_kv_heads * model.head_dim;
    case Side::kHead:
      return model.head_dim;
    case Side::kFfn:
      return model.intermediate_size;
    case Side::kExperts:
      return model.moe.num_experts;
    case Side::kExpertFfn:
      return model.moe.intermediate_size;
    case Side::kSharedFfn:
      return model.moe.shared_intermediate_size;
    case Side::kVocab:
      return model.vocab_size;
    case Side::kContext:
      return model.max_context;
    case Side::kRopePairs:
      return model.head_dim / 2;
    case Side::kTokenTypes:
      break;
  }
  return -1;
}

bool Fits(Side side, const weights::ModelHyperparameters& model,
          int64_t extent) {
  if (side == Side::kTokenTypes) {
    return extent >= 1 && extent <= kMaxTokenTypes;
  }
  return extent == Extent(side, model);
}

}  // namespace conclave::families
