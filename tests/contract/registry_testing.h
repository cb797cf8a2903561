// Values and checks that tests of the registry share.
#ifndef CONCLAVE_TESTS_CONTRACT_REGISTRY_TESTING_H_
#define CONCLAVE_TESTS_CONTRACT_REGISTRY_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "registry/expert_spec.h"

namespace conclave::registry {

inline ModelRecord SomeModel(const std::string& name) {
  return {.name = name,
          .version = "v-" + name,
          .architecture = "llama",
          .bytes = 100,
          .parameters = 50,
          .context = 2048,
          .source = name + ".gguf"};
}

inline ExpertSpec OnModel(const std::string& name, const std::string& model,
                          std::vector<std::string> categories) {
  ExpertSpec spec;
  spec.name = name;
  spec.model = model;
  spec.categories = std::move(categories);
  spec.samples = {{"hello from " + name, ""}};
  return spec;
}

inline std::string Text(const absl::Status& status) {
  return std::string(Message(status));
}

// EXPECT_* that show the whole status.
#define EXPECT_STATUS(expr, expected_code, substring)                      \
  do {                                                                     \
    const absl::Status status_ = ::conclave::internal::GetStatus(expr);    \
    EXPECT_EQ(status_.code(), absl::StatusCode::expected_code) << status_; \
    EXPECT_THAT(::conclave::registry::Text(status_),                       \
                testing::HasSubstr(substring));                            \
  } while (false)
#define ASSERT_OK_STATUS(expr)                                          \
  do {                                                                  \
    const absl::Status status_ = ::conclave::internal::GetStatus(expr); \
    ASSERT_TRUE(status_.ok()) << status_;                               \
  } while (false)

}  // namespace conclave::registry

#endif  // CONCLAVE_TESTS_CONTRACT_REGISTRY_TESTING_H_
