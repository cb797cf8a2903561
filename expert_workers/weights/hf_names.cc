#include "expert_workers/weights/hf_names.h"

#include <algorithm>

#include "base/status.h"

namespace conclave::weights {
namespace {

bool IsDigits(std::string_view text) {
  return !text.empty() && text.size() <= 4 &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

HfNames::HfNames(const families::Family& family) : family_(family) {
  for (const auto list : {family.list_embedding, family.list_head}) {
    for (const families::TensorRule& rule : families::RulesOf(list)) {
      if (!rule.hugging_face.empty()) model_[rule.hugging_face] = rule.gguf;
    }
  }
  for (const std::string_view name : family.hf_unused) model_[name] = "";
  for (const families::TensorRule& rule :
       families::RulesOf(family.list_layer)) {
    layer_[rule.hugging_face] = rule.gguf;
  }
  for (const families::TensorRule& rule : families::ExpertRules(family)) {
    expert_[rule.hugging_face] = rule.gguf;
  }
}

std::optional<std::string> HfNames::TranslateExpert(
    std::string_view name) const {
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || !IsDigits(name.substr(0, dot))) {
    return std::nullopt;
  }
  const auto it = expert_.find(name.substr(dot + 1));
  if (it == expert_.end()) return std::nullopt;
  return fmt::format("expert.{}.{}", name.substr(0, dot), it->second);
}

std::optional<std::string> HfNames::Translate(std::string_view name) const {
  if (name.starts_with(family_.hf_prefix)) {
    name.remove_prefix(family_.hf_prefix.size());
  }
  if (const auto it = model_.find(name); it != model_.end()) {
    return std::string(it->second);
  }
  if (!name.starts_with(family_.hf_layers)) return std::nullopt;
  name.remove_prefix(family_.hf_layers.size());
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || !IsDigits(name.substr(0, dot))) {
    return std::nullopt;
  }
  const std::string_view layer = name.substr(0, dot);
  name.remove_prefix(dot + 1);
  // A buffer that old checkpoints carry.
  if (name == "self_attn.rotary_emb.inv_freq") return "";
  if (!family_.hf_experts.empty() && name.starts_with(family_.hf_experts)) {
    name.remove_prefix(family_.hf_experts.size());
    const auto expert = TranslateExpert(name);
    if (!expert) return std::nullopt;
    return fmt::format("blk.{}.{}", layer, *expert);
  }
  const auto it = layer_.find(name);
  if (it == layer_.end()) return std::nullopt;
  return fmt::format("blk.{}.{}", layer, it->second);
}

}  // namespace conclave::weights
