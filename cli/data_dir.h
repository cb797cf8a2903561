// What a data directory holds: weights/, registry/, journal/. One process at a
// time owns it.
#ifndef CONCLAVE_CLI_DATA_DIR_H_
#define CONCLAVE_CLI_DATA_DIR_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "expert_workers/weights/weight_store.h"
#include "registry/registry.h"
#include "registry/service.h"

namespace conclave::cli {

class DataDir {
 public:
  // Makes what is missing; brings the registry's models in line with the
  // weights (an import that was killed between the two is finished here).
  //   UNAVAILABLE        another process owns it
  //   PERMISSION_DENIED  it cannot be written
  static absl::StatusOr<std::unique_ptr<DataDir>> Open(const std::string& path);
  virtual ~DataDir() = default;

  virtual weights::WeightStore& weights() = 0;
  virtual registry::Registry& registry() = 0;
  // Imports and removes models for the registry service.
  virtual registry::ModelAdmin& model_admin() = 0;
};

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_DATA_DIR_H_
