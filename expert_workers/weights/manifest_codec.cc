#include "expert_workers/weights/manifest_codec.h"

#include "base/hash.h"
#include "expert_workers/weights/unit_layout.h"
#include "expert_workers/weights/wire.h"
#include "kernels/packed_matrix.h"

namespace conclave::weights {
namespace {

constexpr std::string_view kMagic = "conclave manifest";
// 2: as in docs/weights_on_disk.md. 1 had no windows, local base, YaRN's
// numbers, attention scale or rules for spaces; it is still read.
constexpr uint32_t kFormat = 2;
// 3: 2, the numbers of a mixture of experts and the lineage. Written only for
// models that have either, so that all others keep the version that they had.
constexpr uint32_t kMoeFormat = 3;

uint32_t FormatOf(const ModelManifest& manifest) {
  const bool more = manifest.spec.hyperparameters.moe.num_experts > 0 ||
                    !manifest.lineage.empty();
  return more ? kMoeFormat : kFormat;
}

void Encode(uint32_t format, const ModelHyperparameters& model,
            WireWriter* out) {
  out->String(model.architecture);
  out->I64(model.num_layers);
  out->I64(model.hidden_size);
  out->I64(model.intermediate_size);
  out->I64(model.num_heads);
  out->I64(model.num_kv_heads);
  out->I64(model.head_dim);
  out->I64(model.vocab_size);
  out->I64(model.max_context);
  out->F32(model.norm_eps);
  out->F32(model.rope_theta);
  out->String(model.rope_scaling);
  out->F32(model.rope_factor);
  out->F32(model.rope_low_freq_factor);
  out->F32(model.rope_high_freq_factor);
  out->I64(model.rope_original_context);
  out->Bool(model.tied_embeddings);
  out->F32(model.rope_beta_fast);
  out->F32(model.rope_beta_slow);
  out->F32(model.rope_magnitude);
  out->F32(model.rope_local_theta);
  out->Count(model.layer_windows.size());
  for (const int64_t window : model.layer_windows) out->I64(window);
  out->F32(model.attention_scale);
  if (format < kMoeFormat) return;
  out->I64(model.moe.num_experts);
  out->I64(model.moe.experts_per_token);
  out->I64(model.moe.intermediate_size);
  out->I64(model.moe.shared_intermediate_size);
  out->Bool(model.moe.renormalize);
}

void Decode(uint32_t format, WireReader* in, ModelHyperparameters* model) {
  model->architecture = in->String();
  model->num_layers = in->I64();
  model->hidden_size = in->I64();
  model->intermediate_size = in->I64();
  model->num_heads = in->I64();
  model->num_kv_heads = in->I64();
  model->head_dim = in->I64();
  model->vocab_size = in->I64();
  model->max_context = in->I64();
  model->norm_eps = in->F32();
  model->rope_theta = in->F32();
  model->rope_scaling = in->String();
  model->rope_factor = in->F32();
  model->rope_low_freq_factor = in->F32();
  model->rope_high_freq_factor = in->F32();
  model->rope_original_context = in->I64();
  model->tied_embeddings = in->Bool();
  if (format < 2) return;
  model->rope_beta_fast = in->F32();
  model->rope_beta_slow = in->F32();
  model->rope_magnitude = in->F32();
  model->rope_local_theta = in->F32();
  model->layer_windows.resize(in->Count(8));
  for (int64_t& window : model->layer_windows) window = in->I64();
  model->attention_scale = in->F32();
  if (format < kMoeFormat) return;
  model->moe.num_experts = in->I64();
  model->moe.experts_per_token = in->I64();
  model->moe.intermediate_size = in->I64();
  model->moe.shared_intermediate_size = in->I64();
  model->moe.renormalize = in->Bool();
}

void Encode(const TokenizerSpec& tokenizer, WireWriter* out) {
  out->U8(static_cast<uint8_t>(tokenizer.kind));
  out->String(tokenizer.pre);
  out->Count(tokenizer.tokens.size());
  for (const std::string& token : tokenizer.tokens) out->String(token);
  out->Count(tokenizer.types.size());
  for (const TokenType type : tokenizer.types) {
    out->U8(static_cast<uint8_t>(type));
  }
  out->Count(tokenizer.scores.size());
  for (const float score : tokenizer.scores) out->F32(score);
  out->Count(tokenizer.merges.size());
  for (const std::string& merge : tokenizer.merges) out->String(merge);
  out->I32(tokenizer.bos_id);
  out->I32(tokenizer.eos_id);
  out->I32(tokenizer.unk_id);
  out->I32(tokenizer.pad_id);
  out->I32(tokenizer.cls_id);
  out->I32(tokenizer.sep_id);
  out->Count(tokenizer.end_of_turn_ids.size());
  for (const int32_t id : tokenizer.end_of_turn_ids) out->I32(id);
  out->Bool(tokenizer.add_bos);
  out->Bool(tokenizer.lowercase);
  out->Bool(tokenizer.add_space_prefix);
  out->Bool(tokenizer.remove_extra_spaces);
}

void Decode(uint32_t format, WireReader* in, TokenizerSpec* tokenizer) {
  tokenizer->kind = static_cast<TokenizerKind>(in->U8());
  tokenizer->pre = in->String();
  tokenizer->tokens.resize(in->Count(4));
  for (std::string& token : tokenizer->tokens) token = in->String();
  tokenizer->types.resize(in->Count(1));
  for (TokenType& type : tokenizer->types) {
    type = static_cast<TokenType>(in->U8());
  }
  tokenizer->scores.resize(in->Count(4));
  for (float& score : tokenizer->scores) score = in->F32();
  tokenizer->merges.resize(in->Count(4));
  for (std::string& merge : tokenizer->merges) merge = in->String();
  tokenizer->bos_id = in->I32();
  tokenizer->eos_id = in->I32();
  tokenizer->unk_id = in->I32();
  tokenizer->pad_id = in->I32();
  tokenizer->cls_id = in->I32();
  tokenizer->sep_id = in->I32();
  tokenizer->end_of_turn_ids.resize(in->Count(4));
  for (int32_t& id : tokenizer->end_of_turn_ids) id = in->I32();
  tokenizer->add_bos = in->Bool();
  tokenizer->lowercase = in->Bool();
  if (format < 2) return;
  tokenizer->add_space_prefix = in->Bool();
  tokenizer->remove_extra_spaces = in->Bool();
}

void Encode(const TensorInfo& tensor, WireWriter* out) {
  out->String(tensor.name);
  out->U32(static_cast<uint32_t>(tensor.type));
  out->I64(tensor.rows);
  out->I64(tensor.cols);
  out->Bool(tensor.is_vector);
  out->Count(tensor.runs.size());
  for (const TensorRun& run : tensor.runs) {
    out->U32(run.record);
    out->I64(run.offset);
    out->I64(run.first_panel);
    out->I64(run.num_panels);
  }
}

absl::Status Decode(WireReader* in, TensorInfo* tensor) {
  tensor->name = in->String();
  const uint32_t type = in->U32();
  const auto traits = kernels::FindQuantTraits(type);
  if (!traits) return DataLoss("tensor {} has type {}", tensor->name, type);
  tensor->type = traits->type;
  tensor->rows = in->I64();
  tensor->cols = in->I64();
  tensor->is_vector = in->Bool();
  tensor->runs.resize(in->Count(4 + 3 * 8));
  for (TensorRun& run : tensor->runs) {
    run.record = in->U32();
    run.offset = in->I64();
    run.first_panel = in->I64();
    run.num_panels = in->I64();
  }
  return absl::OkStatus();
}

void Encode(const UnitInfo& unit, WireWriter* out) {
  out->String(unit.name);
  out->U64(unit.digest.high);
  out->U64(unit.digest.low);
  out->I64(unit.bytes);
  out->Count(unit.record_bytes.size());
  for (const int64_t bytes : unit.record_bytes) out->I64(bytes);
  out->Count(unit.tensors.size());
  for (const TensorInfo& tensor : unit.tensors) Encode(tensor, out);
}

absl::Status Decode(WireReader* in, UnitInfo* unit) {
  unit->name = in->String();
  unit->digest.high = in->U64();
  unit->digest.low = in->U64();
  unit->bytes = in->I64();
  unit->record_bytes.resize(in->Count(8));
  for (int64_t& bytes : unit->record_bytes) bytes = in->I64();
  unit->tensors.resize(in->Count(29));
  for (TensorInfo& tensor : unit->tensors) {
    RETURN_IF_ERROR(Decode(in, &tensor));
  }
  return CheckPlan(*unit);
}

}  // namespace

std::string EncodeManifest(const ModelManifest& manifest) {
  WireWriter out;
  out.String(kMagic);
  const uint32_t format = FormatOf(manifest);
  out.U32(format);
  out.U32(kernels::kPackedLayoutVersion);
  out.String(manifest.source_digest);
  out.I64(manifest.total_bytes);
  out.I64(manifest.parameters);
  if (format >= kMoeFormat) out.String(manifest.lineage);
  Encode(format, manifest.spec.hyperparameters, &out);
  Encode(manifest.spec.tokenizer, &out);
  out.String(manifest.spec.chat_template);
  out.Count(manifest.units.size());
  for (const UnitInfo& unit : manifest.units) Encode(unit, &out);
  return out.Take();
}

std::string VersionOf(std::string_view encoded) { return Sha256Hex(encoded); }

absl::StatusOr<ModelManifest> DecodeManifest(std::string_view encoded,
                                             std::string_view version) {
  if (VersionOf(encoded) != version) {
    return DataLoss("the manifest of version {} is damaged", version);
  }
  WireReader in(encoded);
  const bool known = in.String() == kMagic;
  const uint32_t format = in.U32();
  if (!known || format < 1 || format > kMoeFormat) {
    return DataLoss("the manifest of version {} has an unknown format",
                    version);
  }
  if (const uint32_t layout = in.U32();
      in.ok() && layout != kernels::kPackedLayoutVersion) {
    return FailedPrecondition(
        "version {} is packed in layout {}, this program reads layout {}: "
        "remove the model and import it again",
        version, layout, kernels::kPackedLayoutVersion);
  }
  ModelManifest manifest;
  manifest.version = version;
  manifest.source_digest = in.String();
  manifest.total_bytes = in.I64();
  manifest.parameters = in.I64();
  if (format >= kMoeFormat) manifest.lineage = in.String();
  Decode(format, &in, &manifest.spec.hyperparameters);
  Decode(format, &in, &manifest.spec.tokenizer);
  manifest.spec.chat_template = in.String();
  manifest.units.resize(in.Count(36));
  for (UnitInfo& unit : manifest.units) RETURN_IF_ERROR(Decode(&in, &unit));
  if (!in.AtEnd()) {
    return DataLoss("the manifest of version {} does not parse", version);
  }
  return manifest;
}

}  // namespace conclave::weights
