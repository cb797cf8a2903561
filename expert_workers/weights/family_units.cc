#include "expert_workers/weights/family_units.h"

#include <map>
#include <span>

namespace conclave::weights {
namespace {

using families::TensorRule;
using TensorMap = std::map<std::string, SourceTensor, std::less<>>;

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
  absl::Status TakeTensor(const TensorRule& rule, const std::string& name,
                          UnitSource* unit) {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) {
      if (rule.optional) return absl::OkStatus();
      return InvalidArgument("tensor {} is missing; the {} family has it", name,
                             family_.architecture);
    }
    SourceTensor& tensor = it->second;
    const bool is_vector = rule.rows == families::Side::kOne;
    if (tensor.is_vector != is_vector ||
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
  for (int64_t i = 0; i < model.num_layers; ++i) {
    RETURN_IF_ERROR(sorter.Take(fmt::format("layer.{}", i), layer,
                                fmt::format("blk.{}.", i)));
  }
  RETURN_IF_ERROR(sorter.Take("head", families::RulesOf(family.list_head), ""));
  return sorter.Finish();
}

}  // namespace conclave::weights
