#include "router_service/gateway/api_keys.h"

#include <gtest/gtest.h>

namespace conclave::gateway {
namespace {

TEST(ApiKeysTest, ChecksKeyAndScope) {
  const std::string key = *MakeKey();
  const auto keys =
      ApiKeys::Parse("# people\n\n" + KeyLine(key, "ann") + "  # all\n" +
                     KeyLine("k2", "bob") + " feedback,metrics\n");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->size(), 2u);
  EXPECT_EQ(*keys->Check("Bearer " + key, Scope::kInference), "ann");
  EXPECT_EQ(*keys->Check("bearer k2", Scope::kMetrics), "bob");
  EXPECT_EQ(keys->Check("Bearer k2", Scope::kInference).status().code(),
            absl::StatusCode::kPermissionDenied);
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "Bearer k3", "Basic k2", "k2", "Bearer k2 "}) {
    EXPECT_EQ(keys->Check(wrong, Scope::kMetrics).status().code(),
              absl::StatusCode::kUnauthenticated)
        << wrong;
  }
}

TEST(ApiKeysTest, KeysDiffer) {
  EXPECT_NE(*MakeKey(), *MakeKey());
  EXPECT_GE(MakeKey()->size(), 43u);
}

TEST(ApiKeysTest, BadFilesAreRefusedByLineWithoutShowingKeys) {
  const std::string good = KeyLine("k", "ann");
  for (const std::string& text :
       {std::string(), std::string("# nothing\n"), std::string("plainkey ann"),
        std::string("sha256:abc ann"), good.substr(0, 71), good + " root",
        good + " metrics extra", KeyLine("k", "Ann Smith")}) {
    const auto keys = ApiKeys::Parse(text);
    EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(Message(keys.status()).find("plainkey"), std::string::npos);
  }
  EXPECT_EQ(ApiKeys::Load("no/such/file").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace conclave::gateway
