// Any bytes as a GGUF file: parse, check against the family, plan, and pack
// what is small enough.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/import_gguf.h"
#include "expert_workers/weights/unit_layout.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace conclave::weights;
  const auto source =
      OpenGguf(FromMemory("fuzz.gguf", std::as_bytes(std::span(data, size))));
  if (!source.ok()) return 0;
  for (const UnitSource& unit : source->units) {
    const auto plan = PlanUnit(unit);
    if (!plan.ok()) continue;
    if (!CheckPlan(*plan).ok()) std::abort();
    for (size_t i = 0; i < plan->record_bytes.size(); ++i) {
      const auto bytes = static_cast<size_t>(plan->record_bytes[i]);
      const std::unique_ptr<void, decltype(&std::free)> record(
          std::aligned_alloc(64, bytes), &std::free);
      if (!FillRecord(*source, unit, *plan, i,
                      {static_cast<std::byte*>(record.get()), bytes})
               .ok()) {
        std::abort();  // A checked tensor is always inside its file.
      }
    }
  }
  return 0;
}
