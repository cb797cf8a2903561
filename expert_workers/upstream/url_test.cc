#include "expert_workers/upstream/url.h"

#include <gtest/gtest.h>

namespace conclave::upstream {
namespace {

TEST(UrlTest, ReadsWhatEndpointsHave) {
  auto url = ParseUrl("http://127.0.0.1:9000/v1/");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_FALSE(url->tls);
  EXPECT_EQ(url->host, "127.0.0.1");
  EXPECT_EQ(url->port, 9000);
  EXPECT_EQ(url->path, "/v1");
  EXPECT_EQ(url->Authority(), "127.0.0.1:9000");

  url = ParseUrl("https://API.Example.com/openai/v1");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_TRUE(url->tls);
  EXPECT_EQ(url->port, 443);
  EXPECT_EQ(url->Authority(), "api.example.com");

  url = ParseUrl("http://[::1]:8000");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_EQ(url->host, "::1");
  EXPECT_EQ(url->Authority(), "[::1]:8000");
  EXPECT_EQ(url->path, "");
}

TEST(UrlTest, RefusesEverythingElse) {
  for (const char* text : {"",
                           "localhost:80",
                           "ftp://a/",
                           "http://",
                           "http:///v1",
                           "http://a:0/",
                           "http://a:65536/",
                           "http://a:80x/",
                           "http://a:/",
                           "http://user@a/",
                           "http://a/?q=1",
                           "http://a/#x",
                           "http://a/../b",
                           "http://a b/",
                           "http://a/\r\nX: y",
                           "http://a\r\nX: y/",
                           "http://[1/",
                           "http://[zz]/",
                           "http://[::1]x/",
                           "http://.a/",
                           "HTTP://a/"}) {
    EXPECT_EQ(ParseUrl(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_FALSE(ParseUrl("http://a/" + std::string(3000, 'x')).ok());
}

}  // namespace
}  // namespace conclave::upstream
