// Any bytes as a Hugging Face folder:
//   input = config_bytes:u16 tokenizer_bytes:u16 settings_bytes:u16
//           config tokenizer settings weights
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>

#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/import_safetensors.h"
#include "expert_workers/weights/safetensors_file.h"
#include "expert_workers/weights/unit_layout.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace conclave::weights;
  std::span<const std::byte> rest = std::as_bytes(std::span(data, size));
  if (rest.size() < 6) return 0;
  size_t lengths[3];
  for (size_t i = 0; i < 3; ++i) {
    lengths[i] = static_cast<size_t>(data[2 * i]) |
                 static_cast<size_t>(data[2 * i + 1]) << 8;
  }
  rest = rest.subspan(6);
  std::map<std::string, std::span<const std::byte>, std::less<>> files;
  const char* const names[] = {"config.json", "tokenizer.json",
                               "tokenizer_config.json"};
  for (size_t i = 0; i < 3; ++i) {
    const size_t take = std::min(lengths[i], rest.size());
    files[names[i]] = rest.first(take);
    rest = rest.subspan(take);
  }
  files["model.safetensors"] = rest;
  // The container on its own: the folder's other files are rarely right.
  const auto tensors = ParseSafetensors(*FromMemory("fuzz.safetensors", rest));
  if (tensors.ok()) {
    for (const SafetensorsTensor& tensor : *tensors) {
      if (tensor.offset < 8 ||
          tensor.offset + tensor.bytes > static_cast<int64_t>(rest.size())) {
        std::abort();
      }
    }
  }
  const auto source = OpenSafetensors(*FolderInMemory(std::move(files)));
  if (!source.ok()) return 0;
  for (const UnitSource& unit : source->units) {
    const auto plan = PlanUnit(unit);
    if (plan.ok() && !CheckPlan(*plan).ok()) std::abort();
  }
  return 0;
}
