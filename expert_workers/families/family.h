// What a family of models is: the tensors its files hold, under both formats'
// names, and what a layer computes from them. A family is one file of this
// folder and one name in family.cc; importers and engine know none by name.
#ifndef CONCLAVE_EXPERT_WORKERS_FAMILIES_FAMILY_H_
#define CONCLAVE_EXPERT_WORKERS_FAMILIES_FAMILY_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "expert_workers/weights/model_spec.h"
#include "kernels/gate/gate_config.h"
#include "kernels/packed_matrix.h"

namespace conclave::families {

// A side of a tensor, as a hyperparameter.
enum class Side {
  kOne,  // rows of a vector
  kHidden,
  kQuery,     // num_heads * head_dim
  kKeyValue,  // num_kv_heads * head_dim
  kHead,      // head_dim
  kFfn,
  kExperts,    // MoE experts of a layer
  kExpertFfn,  // width of one
  kSharedFfn,  // width of the shared expert
  kVocab,
  kContext,
  kRopePairs,   // head_dim / 2
  kTokenTypes,  // 1..16, whatever the file has
};

// The unit of the store that a layer's tensor is part of. What an upcycled or
// merged model shares with its parent has to be a unit of its own.
enum class Part {
  kLayer,        // "layer.N": attention, norms
  kFeedForward,  // "layer.N.ffn": the same bytes as an expert that copies it
  kGate,         // "layer.N.gate"
};

struct TensorRule {
  std::string_view gguf;               // after "blk.N." for a layer's
  std::string_view hugging_face = {};  // after hf_layers and "N."; "": none
  Side rows = Side::kOne;
  Side cols = Side::kOne;
  bool optional = false;
  // Its rows (a bias's values) are turned by RoPE.
  bool roped = false;
  Part part = Part::kLayer;
  // There if and only if the model has a shared expert.
  bool shared_expert = false;
};

// Names a group's tensors, in the order in which they are stored. Importers
// collect the rules; the engine fills the slots (an absent optional tensor
// leaves its slot as it was).
class TensorList {
 public:
  virtual ~TensorList() = default;
  virtual void Add(const TensorRule& rule, kernels::PackedMatrix* slot) = 0;
  virtual void Add(const TensorRule& rule, const float** slot) = 0;
};

class DecoderParts;
struct ExpertTensors;  // decoder_tensors.h
struct MoeExperts;     // decoder_tensors.h

// One layer's tensors and its computation.
class DecoderLayer {
 public:
  virtual ~DecoderLayer() = default;
  virtual void List(TensorList& tensors) = 0;
  virtual void Run(DecoderParts& parts) const = 0;
  // A mixture's experts.
  virtual void BindExperts(const MoeExperts& /*experts*/) {}
};

// Which layers look back over a window only.
enum class Windows {
  kNone,        // whatever a config.json says, the architecture has none
  kEveryLayer,  // where "sliding_window" is set
  kLateLayers,  // those from "max_window_layers" on, if "use_sliding_window"
  kPattern,     // all but every Family::full_attention_every-th
};

// A name that config.json's "architectures" may hold, and what it implies.
struct HuggingFaceName {
  std::string_view name;
  Windows windows = Windows::kNone;
  // What an absent "sliding_window" means; 0: no window.
  int64_t default_window = 0;
};

struct Family {
  // Our name, and GGUF's general.architecture unless that is another.
  std::string_view architecture;
  std::string_view gguf_architecture = {};
  std::span<const HuggingFaceName> hugging_face;

  // What stands before a layer's number in Hugging Face's names, what may
  // stand before any name, and tensors that inference does not use.
  std::string_view hf_layers = "model.layers.";
  std::string_view hf_prefix = {};
  std::span<const std::string_view> hf_unused = {};
  // Hugging Face's files hold norm weights less one; GGUF's do not.
  bool hf_norms_less_one = false;

  // GGUF files of this architecture are read; whether they hold Q and K rows
  // for interleaved RoPE; which layers a window in them is for.
  bool in_gguf = true;
  bool gguf_interleaves_rope = false;
  Windows gguf_windows = Windows::kNone;
  // ModelHyperparameters::attention_scale where a GGUF file does not say it;
  // nullptr: 0.
  float (*gguf_attention_scale)(const weights::ModelHyperparameters&) = nullptr;

  std::string_view activation = "silu";  // config.json's word
  // What is usual where a file does not say.
  float rope_theta = 10000.0f;
  float rope_local_theta = 0.0f;  // of layers with a window; 0: rope_theta
  int64_t head_dim = 0;           // 0: hidden_size / num_heads
  int64_t query_scalar = 0;       // "query_pre_attn_scalar"; 0: head_dim
  int64_t full_attention_every = 0;
  bool tied_embeddings = false;
  // x = embedding * sqrt(hidden_size).
  bool scales_embedding = false;

  // Mixture of experts: what stands between a layer's and an expert's number in
  // Hugging Face's names ("mlp.experts."), whether the weights of the chosen
  // sum to 1 where no key says it, and whether config.json says it at all.
  std::string_view hf_experts = {};
  bool renormalizes = false;
  bool hf_says_renormalize = false;

  // Its groups of tensors; `head` is nullptr where there is none.
  void (*list_embedding)(TensorList& tensors) = nullptr;
  void (*list_layer)(TensorList& tensors) = nullptr;
  void (*list_head)(TensorList& tensors) = nullptr;
  // One MoE expert's; nullptr: a dense family. They are stored under
  // "blk.N.expert.E."; GGUF files stack the experts of a layer in one tensor
  // of three dimensions, "blk.N." and the rule's name.
  void (*list_expert)(TensorList& tensors, ExpertTensors* expert) = nullptr;
  // A mixture's gate; set where list_expert is.
  kernels::GateConfig (*gate)(const weights::MoeHyperparameters& moe) = nullptr;
  // nullptr: not a decoder.
  std::unique_ptr<DecoderLayer> (*new_layer)() = nullptr;
};

// nullptr when there is none.
const Family* FindFamily(std::string_view architecture);
// That of a GGUF file: general.architecture, and whether it has experts
// ("llama" with experts is Mixtral). nullptr when there is none.
const Family* FindGgufFamily(std::string_view architecture, bool has_experts);
struct NamedFamily {
  const Family* family = nullptr;
  const HuggingFaceName* name = nullptr;
};
NamedFamily FindHuggingFaceFamily(std::string_view name);

// "gemma3, llama, qwen2": what a refusal lists.
std::string GgufArchitectures();
std::string DecoderArchitectures();
std::string HuggingFaceArchitectures();

// Whether a model without the tensor is a model of the family.
bool MayBeAbsent(const TensorRule& rule,
                 const weights::ModelHyperparameters& model);

// The rules of one group.
std::vector<TensorRule> RulesOf(void (*list)(TensorList& tensors));
std::vector<TensorRule> ExpertRules(const Family& family);

// How long a side is; -1 for kTokenTypes, which only Fits knows.
int64_t Extent(Side side, const weights::ModelHyperparameters& model);
bool Fits(Side side, const weights::ModelHyperparameters& model,
          int64_t extent);

}  // namespace conclave::families

#endif  // CONCLAVE_EXPERT_WORKERS_FAMILIES_FAMILY_H_
