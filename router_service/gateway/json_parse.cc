#include "router_service/gateway/json_parse.h"

#include <string>
#include <utility>
#include <vector>

#include "router_service/gateway/openai_error.h"

namespace conclave::gateway {
namespace {

using nlohmann::json;

// Builds the document, and stops the parser (by returning false) at the first
// limit.
class Builder final : public nlohmann::json_sax<json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(json(nullptr)) != nullptr; }
  bool boolean(bool v) override { return Add(json(v)) != nullptr; }
  bool number_integer(number_integer_t v) override {
    return Add(json(v)) != nullptr;
  }
  bool number_unsigned(number_unsigned_t v) override {
    return Add(json(v)) != nullptr;
  }
  bool number_float(number_float_t v, const string_t&) override {
    return Add(json(v)) != nullptr;
  }
  bool string(string_t& v) override { return Add(json(std::move(v))); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return Open(json::object()); }
  bool start_array(size_t) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& v) override {
    if (open_.back()->contains(v)) {
      status_ = WithCode(
          InvalidArgument("the field \"{}\" is given twice", v.substr(0, 64)),
          "duplicate_field");
      return false;
    }
    key_ = std::move(v);
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    status_ = WithCode(
        InvalidArgument("the body is not valid JSON (at byte {})", position),
        "invalid_json");
    return false;
  }

  absl::StatusOr<json> Take(bool parsed) {
    if (!status_.ok()) return status_;
    if (!parsed) {
      return WithCode(InvalidArgument("the body is not valid JSON"),
                      "invalid_json");
    }
    return std::move(root_);
  }

 private:
  json* Add(json value) {
    if (++values_ > limits_.max_values) {
      status_ = WithCode(InvalidArgument("the body holds more than {} values",
                                         limits_.max_values),
                         "json_too_large");
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    json& slot = parent[key_];
    slot = std::move(value);
    return &slot;
  }

  bool Open(json container) {
    if (open_.size() >= limits_.max_depth) {
      status_ = WithCode(
          InvalidArgument("the body nests deeper than {}", limits_.max_depth),
          "json_too_deep");
      return false;
    }
    json* added = Add(std::move(container));
    if (added == nullptr) return false;
    // The pointer stays good: a parent gets no further child while this one
    // is open.
    open_.push_back(added);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const JsonLimits limits_;
  absl::Status status_;
  json root_;
  std::vector<json*> open_;
  std::string key_;
  size_t values_ = 0;
};

}  // namespace

absl::StatusOr<json> ParseJson(std::string_view text,
                               const JsonLimits& limits) {
  Builder builder(limits);
  const bool parsed = json::sax_parse(text.begin(), text.end(), &builder);
  return builder.Take(parsed);
}

}  // namespace conclave::gateway
