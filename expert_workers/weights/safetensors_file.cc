#include "expert_workers/weights/safetensors_file.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace conclave::weights {
namespace {

constexpr size_t kMaxTensors = 1 << 17;
constexpr size_t kMaxDims = 8;

std::optional<int64_t> DtypeBytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, int64_t> kSizes[] = {
      {"F64", 8},  {"I64", 8}, {"U64", 8},  {"F32", 4},     {"I32", 4},
      {"U32", 4},  {"F16", 2}, {"BF16", 2}, {"I16", 2},     {"U16", 2},
      {"BOOL", 1}, {"I8", 1},  {"U8", 1},   {"F8_E4M3", 1}, {"F8_E5M2", 1},
  };
  for (const auto& [name, bytes] : kSizes) {
    if (name == dtype) return bytes;
  }
  return std::nullopt;
}

// Follows the header's events. Each method returns whether to go on; `error`
// says why not.
class HeaderEvents {
 public:
  using Json = nlohmann::json;

  std::vector<SafetensorsTensor> tensors;
  std::string error;

  bool start_object(size_t) {
    ++depth_;
    if (depth_ == 1) return true;
    if (depth_ != 2 || list_ != List::kNone) return Bad("an object");
    if (in_metadata_) return true;
    if (tensors.size() >= kMaxTensors) return Bad("one tensor too many");
    tensors.emplace_back().name = key_;
    tensors.back().offset = -1;
    return true;
  }
  bool end_object() {
    --depth_;
    if (depth_ != 1) return true;
    if (!in_metadata_ &&
        (tensors.back().dtype.empty() || !has_shape_ || num_offsets_ != 2)) {
      return Bad("a tensor without dtype, shape and data_offsets");
    }
    in_metadata_ = has_shape_ = false;
    num_offsets_ = 0;
    return true;
  }
  bool key(std::string& name) {
    key_ = name;
    if (depth_ != 1) return true;
    if (!names_.insert(name).second) return Bad("a name that appears twice");
    in_metadata_ = name == "__metadata__";
    return true;
  }
  bool start_array(size_t) {
    if (depth_ != 2 || in_metadata_ || list_ != List::kNone) {
      return Bad("a list");
    }
    if (key_ == "shape" && !has_shape_) {
      list_ = List::kShape;
      has_shape_ = true;
      return true;
    }
    if (key_ == "data_offsets" && num_offsets_ == 0) {
      list_ = List::kOffsets;
      return true;
    }
    return Bad("a list");
  }
  bool end_array() {
    list_ = List::kNone;
    return true;
  }
  bool string(std::string& value) {
    if (depth_ != 2 || list_ != List::kNone) return Bad("a string");
    if (in_metadata_) return true;
    if (key_ != "dtype" || !tensors.back().dtype.empty() || value.empty()) {
      return Bad("a string");
    }
    tensors.back().dtype = value;
    return true;
  }
  bool number_unsigned(uint64_t value) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Bad("a number too large");
    }
    const auto number = static_cast<int64_t>(value);
    if (list_ == List::kShape) {
      tensors.back().shape.push_back(number);
      return tensors.back().shape.size() <= kMaxDims || Bad("a dimension");
    }
    if (list_ != List::kOffsets) return Bad("a number");
    // `bytes` holds the end until the offsets are checked.
    (num_offsets_ == 0 ? tensors.back().offset : tensors.back().bytes) = number;
    return ++num_offsets_ <= 2 || Bad("a third offset");
  }
  bool number_integer(int64_t) { return Bad("a negative number"); }
  bool number_float(double, const std::string&) { return Bad("a fraction"); }
  bool null() { return Bad("null"); }
  bool boolean(bool) { return Bad("true or false"); }
  bool binary(Json::binary_t&) { return Bad("binary"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) {
    error = fmt::format("is not JSON near offset {}", position + 8);
    return false;
  }

 private:
  enum class List { kNone, kShape, kOffsets };

  bool Bad(std::string_view what) {
    error = fmt::format("has {} where none belongs, at \"{}\"", what,
                        std::string_view(key_).substr(0, 200));
    return false;
  }

  int depth_ = 0;
  bool in_metadata_ = false;
  bool has_shape_ = false;
  int num_offsets_ = 0;
  List list_ = List::kNone;
  std::string key_;
  std::set<std::string, std::less<>> names_;
};

absl::Status Measure(const ByteSource& source, int64_t data_offset,
                     SafetensorsTensor* tensor) {
  const auto element = DtypeBytes(tensor->dtype);
  if (!element) {
    return Unimplemented("{}: tensor {} has dtype {}", source.name(),
                         tensor->name, tensor->dtype.substr(0, 32));
  }
  const int64_t begin = tensor->offset;
  const int64_t end = tensor->bytes;
  int64_t bytes = *element;
  bool overflow = false;
  for (const int64_t dim : tensor->shape) {
    overflow |= __builtin_mul_overflow(bytes, dim, &bytes);
  }
  const int64_t data_bytes = source.size() - data_offset;
  if (overflow || begin > end || end > data_bytes || end - begin != bytes) {
    return InvalidArgument(
        "{}: tensor {} says bytes {}..{} of {}; its shape and dtype need {}, "
        "so the file is truncated or lies",
        source.name(), tensor->name, begin, end, data_bytes,
        overflow ? std::string("more than a file has")
                 : fmt::format("{}", bytes));
  }
  tensor->offset = data_offset + begin;
  tensor->bytes = bytes;
  return absl::OkStatus();
}

// Every byte of the data belongs to exactly one tensor.
absl::Status CheckCover(const ByteSource& source, int64_t data_offset,
                        const std::vector<SafetensorsTensor>& tensors) {
  std::vector<const SafetensorsTensor*> by_offset;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.bytes > 0) by_offset.push_back(&tensor);
  }
  std::ranges::sort(by_offset, {}, &SafetensorsTensor::offset);
  int64_t next = data_offset;
  for (const SafetensorsTensor* tensor : by_offset) {
    if (tensor->offset != next) {
      return InvalidArgument("{}: {} before tensor {} at offset {}",
                             source.name(),
                             tensor->offset > next ? "a hole" : "an overlap",
                             tensor->name, tensor->offset);
    }
    next += tensor->bytes;
  }
  if (next != source.size()) {
    return InvalidArgument("{}: {} bytes after the last tensor, at offset {}",
                           source.name(), source.size() - next, next);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsTensor>> ParseSafetensors(
    const ByteSource& source) {
  uint64_t header_bytes = 0;
  RETURN_IF_ERROR(
      source.ReadAt(0, std::as_writable_bytes(std::span(&header_bytes, 1))));
  if (header_bytes < 2 ||
      header_bytes > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes) ||
      static_cast<int64_t>(header_bytes) > source.size() - 8) {
    return InvalidArgument(
        "{}: the header length at offset 0 is {}; the file has {} bytes and "
        "the limit is {}",
        source.name(), header_bytes, source.size(), kMaxSafetensorsHeaderBytes);
  }
  std::string header(header_bytes, '\0');
  RETURN_IF_ERROR(source.ReadAt(8, std::as_writable_bytes(std::span(header))));
  if (header.front() != '{') {
    return InvalidArgument("{}: no JSON object at offset 8", source.name());
  }
  HeaderEvents events;
  if (!nlohmann::json::sax_parse(header, &events)) {
    return InvalidArgument("{}: the header {}", source.name(), events.error);
  }
  const int64_t data_offset = 8 + static_cast<int64_t>(header_bytes);
  for (SafetensorsTensor& tensor : events.tensors) {
    RETURN_IF_ERROR(Measure(source, data_offset, &tensor));
  }
  RETURN_IF_ERROR(CheckCover(source, data_offset, events.tensors));
  return std::move(events.tensors);
}

}  // namespace conclave::weights
