#include "expert_workers/weights/family_units.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <span>

namespace conclave::weights {
namespace {

using families::TensorRule;
using TensorMap = std::map<std::string, SourceTensor, std::less<>>;

struct LayerPart {
  families::Part part;
  std::string_view suffix;  // of the unit's name
};
constexpr LayerPart kLayerParts[] = {{families::Part::kLayer, ""},
                                     {families::Part::kFeedForward, ".ffn"},
                                     {families::Part::kGate, ".gate"}};

class UnitSorter {
 public:
  UnitSorter(const families::Family& family, const ModelHyperparameters& model,
             SourceFormat format)
      : family_(family), model_(model), format_(format) {}

  absl::Status AddTensors(std::vector<SourceTensor> tensors) {
    for (SourceTensor& tensor : tensors) {
      std::string name = tensor.name;
      const auto [it, fresh] = tensors_.emplace(name, std::move(tensor));
      if (!fresh) return InvalidArgument("tensor {} appears twice", it->first);
    }
    return absl::OkStatus();
  }

  // GGUF's stacks of a layer's experts -> a tensor for each expert. Their
  // sizes are checked with the tensors that they become.
  absl::Status Unstack(std::span<const TensorRule> rules) {
    for (int64_t layer = 0; layer < model_.num_layers; ++layer) {
      for (const TensorRule& rule : rules) {
        const auto it =
            tensors_.find(fmt::format("blk.{}.{}", layer, rule.gguf));
        if (it == tensors_.end()) continue;
        const SourceTensor stack = it->second;
        if (stack.stacked != model_.moe.num_experts ||
            stack.rows % stack.stacked != 0) {
          return InvalidArgument("tensor {} has {} experts; the model has {}",
                                 stack.name, stack.stacked,
                                 model_.moe.num_experts);
        }
        tensors_.erase(it);
        RETURN_IF_ERROR(TakeApart(stack, layer, rule.gguf));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Take(std::string name, std::span<const TensorRule> rules,
                    std::string_view prefix) {
    if (rules.empty()) return absl::OkStatus();
    UnitSource unit{std::move(name), {}};
    for (const TensorRule& rule : rules) {
      RETURN_IF_ERROR(
          TakeTensor(rule, fmt::format("{}{}", prefix, rule.gguf), &unit));
    }
    units_.push_back(std::move(unit));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<UnitSource>> Finish() {
    if (tensors_.empty()) return std::move(units_);
    return Unimplemented(
        "tensor {} is not one that the {} family has ({} such tensors)",
        tensors_.begin()->first, family_.architecture, tensors_.size());
  }

 private:
  absl::Status TakeApart(const SourceTensor& stack, int64_t layer,
                         std::string_view name) {
    std::vector<SourceTensor> parts;
    SourceTensor part = stack;
    part.stacked = 1;
    part.rows = stack.rows / stack.stacked;
    const int64_t bytes = part.rows * kernels::RowBytes(stack.type, stack.cols);
    for (int64_t e = 0; e < stack.stacked; ++e) {
      part.name = fmt::format("blk.{}.expert.{}.{}", layer, e, name);
      parts.push_back(part);
      part.offset += bytes;
    }
    return AddTensors(std::move(parts));
  }

  absl::Status TakeTensor(const TensorRule& rule, const std::string& name,
                          UnitSource* unit) {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) {
      if (families::MayBeAbsent(rule, model_)) return absl::OkStatus();
      return InvalidArgument("tensor {} is missing; the {} family has it", name,
                             family_.architecture);
    }
    SourceTensor& tensor = it->second;
    const bool is_vector = rule.rows == families::Side::kOne;
    // Hugging Face writes a projection to one value as a matrix of one row.
    if (is_vector && tensor.rows == 1) tensor.is_vector = true;
    if (tensor.is_vector != is_vector || tensor.stacked != 1 ||
        !families::Fits(rule.rows, model_, tensor.rows) ||
        !families::Fits(rule.cols, model_, tensor.cols)) {
      return InvalidArgument(
          "tensor {} is {} by {}; the model's numbers make it {} by {}", name,
          tensor.rows, tensor.cols, families::Extent(rule.rows, model_),
          families::Extent(rule.cols, model_));
    }
    if (format_ == SourceFormat::kGguf) {
      if (family_.gguf_interleaves_rope && rule.roped) {
        tensor.interleaved_head_dim = model_.head_dim;
      }
    } else if (family_.hf_norms_less_one && is_vector) {
      tensor.plus = 1.0f;
    }
    unit->tensors.push_back(std::move(tensor));
    tensors_.erase(it);
    return absl::OkStatus();
  }

  const families::Family& family_;
  const ModelHyperparameters& model_;
  const SourceFormat format_;
  TensorMap tensors_;
  std::vector<UnitSource> units_;
};

}  // namespace

absl::StatusOr<std::vector<UnitSource>> SortIntoUnits(
    const families::Family& family, const ModelHyperparameters& model,
    SourceFormat format, std::vector<SourceTensor> tensors) {
  UnitSorter sorter(family, model, format);
  RETURN_IF_ERROR(sorter.AddTensors(std::move(tensors)));
  RETURN_IF_ERROR(
      sorter.Take("embedding", families::RulesOf(family.list_embedding), ""));
  const std::vector<TensorRule> layer = families::RulesOf(family.list_layer);
  const std::vector<TensorRule> expert = families::ExpertRules(family);
  RETURN_IF_ERROR(sorter.Unstack(expert));
  for (int64_t i = 0; i < model.num_layers; ++i) {
    for (const LayerPart& part : kLayerParts) {
      std::vector<TensorRule> rules;
      std::ranges::copy_if(
          layer, std::back_inserter(rules),
          [&](const TensorRule& rule) { return rule.part == part.part; });
      RETURN_IF_ERROR(sorter.Take(fmt::format("layer.{}{}", i, part.suffix),
                                  rules, fmt::format("blk.{}.", i)));
    }
    for (int64_t e = 0; e < model.moe.num_experts; ++e) {
      RETURN_IF_ERROR(sorter.Take(fmt::format("layer.{}.expert.{}", i, e),
                                  expert,
                                  fmt::format("blk.{}.expert.{}.", i, e)));
    }
  }
  RETURN_IF_ERROR(sorter.Take("head", families::RulesOf(family.list_head), ""));
  return sorter.Finish();
}

}  // namespace conclave::weights
