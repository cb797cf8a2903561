#include "expert_workers/weights/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "base/units.h"

namespace conclave::weights {
namespace {

// Far above what any model has; a lie above it is refused before work.
constexpr uint64_t kMaxKeys = 1 << 16;
constexpr uint64_t kMaxTensors = 1 << 17;
constexpr uint64_t kMaxStrings = 1 << 22;
constexpr uint64_t kMaxNameBytes = 255;
constexpr int64_t kMaxDim = int64_t{1} << 40;

// Reads forward through the header, a window at a time.
class HeaderReader {
 public:
  explicit HeaderReader(const ByteSource& source)
      : source_(source), limit_(std::min(source.size(), kMaxGgufHeaderBytes)) {}

  int64_t offset() const { return offset_; }
  uint64_t left() const { return static_cast<uint64_t>(limit_ - offset_); }

  absl::Status Need(uint64_t bytes, std::string_view what) const {
    if (bytes <= left()) return absl::OkStatus();
    if (limit_ < source_.size()) {
      return InvalidArgument(
          "{}: {} at offset {} needs {} bytes, which passes the header limit "
          "of {} bytes",
          source_.name(), what, offset_, bytes, kMaxGgufHeaderBytes);
    }
    return InvalidArgument(
        "{}: {} at offset {} needs {} bytes, but {} are left; the file is "
        "truncated or lies about a length",
        source_.name(), what, offset_, bytes, left());
  }

  absl::Status Bytes(void* out, size_t n, std::string_view what) {
    RETURN_IF_ERROR(Need(n, what));
    auto* to = static_cast<char*>(out);
    while (n > 0) {
      if (offset_ < window_start_ ||
          offset_ >= window_start_ + static_cast<int64_t>(window_.size())) {
        RETURN_IF_ERROR(LoadWindow());
      }
      const size_t at = static_cast<size_t>(offset_ - window_start_);
      const size_t take = std::min(n, window_.size() - at);
      std::memcpy(to, window_.data() + at, take);
      to += take;
      n -= take;
      offset_ += static_cast<int64_t>(take);
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::StatusOr<T> Fixed(std::string_view what) {
    T value{};
    RETURN_IF_ERROR(Bytes(&value, sizeof value, what));
    return value;
  }

  absl::StatusOr<std::string> String(std::string_view what,
                                     uint64_t max_bytes) {
    const int64_t at = offset_;
    ASSIGN_OR_RETURN(const uint64_t size, Fixed<uint64_t>(what));
    if (size > max_bytes) {
      return InvalidArgument("{}: {} at offset {} has {} bytes; at most {}",
                             source_.name(), what, at, size, max_bytes);
    }
    RETURN_IF_ERROR(Need(size, what));
    std::string value(size, '\0');
    RETURN_IF_ERROR(Bytes(value.data(), value.size(), what));
    return value;
  }

 private:
  absl::Status LoadWindow() {
    window_start_ = offset_;
    window_.resize(
        static_cast<size_t>(std::min<int64_t>(256 * kKiB, limit_ - offset_)));
    return source_.ReadAt(offset_, std::as_writable_bytes(std::span(window_)));
  }

  const ByteSource& source_;
  const int64_t limit_;
  int64_t offset_ = 0;
  int64_t window_start_ = 0;
  std::string window_;
};

// Bytes of one number or boolean; 0 for strings, arrays and unknown types.
size_t ScalarBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

class Parser {
 public:
  explicit Parser(const ByteSource& source)
      : source_(source), header_(source) {}

  absl::StatusOr<GgufFile> Parse() {
    uint64_t num_tensors = 0;
    uint64_t num_keys = 0;
    RETURN_IF_ERROR(ParseMagic(&num_tensors, &num_keys));
    for (uint64_t i = 0; i < num_keys; ++i) RETURN_IF_ERROR(ParseKey());
    RETURN_IF_ERROR(ParseAlignment());
    for (uint64_t i = 0; i < num_tensors; ++i) RETURN_IF_ERROR(ParseTensor());
    RETURN_IF_ERROR(PlaceTensors());
    return std::move(file_);
  }

 private:
  template <typename T>
  absl::StatusOr<T> Read(std::string_view what) {
    return header_.Fixed<T>(what);
  }

  absl::Status ParseMagic(uint64_t* num_tensors, uint64_t* num_keys) {
    char magic[4] = {};
    RETURN_IF_ERROR(header_.Bytes(magic, sizeof magic, "the magic number"));
    if (std::memcmp(magic, "GGUF", 4) != 0) {
      return InvalidArgument("{}: not a GGUF file (no \"GGUF\" at offset 0)",
                             source_.name());
    }
    ASSIGN_OR_RETURN(const uint32_t version, Read<uint32_t>("the version"));
    if (version != 3) {
      return Unimplemented("{}: GGUF version {}{}; version 3 is supported",
                           source_.name(), version,
                           version == 0x03000000 ? " (big-endian)" : "");
    }
    ASSIGN_OR_RETURN(*num_tensors, Read<uint64_t>("the number of tensors"));
    ASSIGN_OR_RETURN(*num_keys, Read<uint64_t>("the number of keys"));
    if (*num_tensors > kMaxTensors || *num_keys > kMaxKeys) {
      return InvalidArgument(
          "{}: {} tensors and {} keys at offset 8; at most {} and {}",
          source_.name(), *num_tensors, *num_keys, kMaxTensors, kMaxKeys);
    }
    return absl::OkStatus();
  }

  absl::Status ParseKey() {
    const int64_t at = header_.offset();
    ASSIGN_OR_RETURN(std::string key, header_.String("a key", 65535));
    ASSIGN_OR_RETURN(const uint32_t type, Read<uint32_t>("a value's type"));
    absl::StatusOr<GgufValue> value =
        ParseValue(static_cast<GgufType>(type), key);
    RETURN_IF_ERROR(value);
    if (!file_.metadata.emplace(key, std::move(*value)).second) {
      return InvalidArgument("{}: key {} at offset {} appears twice",
                             source_.name(), key, at);
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::StatusOr<GgufValue> ParseInt(std::string_view key) {
    ASSIGN_OR_RETURN(const T value, Read<T>(key));
    // A u64 above int64's range turns negative and fails every range check.
    return GgufValue(static_cast<int64_t>(value));
  }

  absl::StatusOr<GgufValue> ParseValue(GgufType type, std::string_view key) {
    switch (type) {
      case GgufType::kUint8:
        return ParseInt<uint8_t>(key);
      case GgufType::kInt8:
        return ParseInt<int8_t>(key);
      case GgufType::kUint16:
        return ParseInt<uint16_t>(key);
      case GgufType::kInt16:
        return ParseInt<int16_t>(key);
      case GgufType::kUint32:
        return ParseInt<uint32_t>(key);
      case GgufType::kInt32:
        return ParseInt<int32_t>(key);
      case GgufType::kUint64:
        return ParseInt<uint64_t>(key);
      case GgufType::kInt64:
        return ParseInt<int64_t>(key);
      case GgufType::kFloat32: {
        ASSIGN_OR_RETURN(const float value, Read<float>(key));
        return GgufValue(static_cast<double>(value));
      }
      case GgufType::kFloat64: {
        ASSIGN_OR_RETURN(const double value, Read<double>(key));
        return GgufValue(value);
      }
      case GgufType::kBool: {
        ASSIGN_OR_RETURN(const uint8_t value, Read<uint8_t>(key));
        return GgufValue(value != 0);
      }
      case GgufType::kString: {
        ASSIGN_OR_RETURN(
            std::string value,
            header_.String(key, static_cast<uint64_t>(kMaxGgufHeaderBytes)));
        return GgufValue(std::move(value));
      }
      case GgufType::kArray:
        return ParseArray(key);
    }
    return InvalidArgument("{}: key {} before offset {} has unknown type {}",
                           source_.name(), key, header_.offset(),
                           static_cast<uint32_t>(type));
  }

  absl::StatusOr<GgufValue> ParseArray(std::string_view key) {
    const int64_t at = header_.offset();
    GgufArray array;
    ASSIGN_OR_RETURN(const uint32_t element, Read<uint32_t>(key));
    ASSIGN_OR_RETURN(array.count, Read<uint64_t>(key));
    array.element = static_cast<GgufType>(element);
    if (array.element == GgufType::kString) {
      // Each string has at least its length: 8 bytes.
      if (array.count > kMaxStrings || array.count > header_.left() / 8) {
        return InvalidArgument(
            "{}: {} at offset {} says {} strings, more than can follow",
            source_.name(), key, at, array.count);
      }
      array.strings.reserve(array.count);
      for (uint64_t i = 0; i < array.count; ++i) {
        ASSIGN_OR_RETURN(
            std::string text,
            header_.String(key, static_cast<uint64_t>(kMaxGgufHeaderBytes)));
        array.strings.push_back(std::move(text));
      }
      return GgufValue(std::move(array));
    }
    const size_t bytes = ScalarBytes(array.element);
    if (bytes == 0) {
      return InvalidArgument(
          "{}: {} at offset {} is a list of type {}, which cannot be listed",
          source_.name(), key, at, element);
    }
    if (array.count > header_.left() / bytes) {
      return InvalidArgument(
          "{}: {} at offset {} says {} elements, more than can follow",
          source_.name(), key, at, array.count);
    }
    array.raw.resize(array.count * bytes);
    RETURN_IF_ERROR(header_.Bytes(array.raw.data(), array.raw.size(), key));
    return GgufValue(std::move(array));
  }

  absl::Status ParseAlignment() {
    ASSIGN_OR_RETURN(const std::optional<int64_t> alignment,
                     file_.Int("general.alignment"));
    if (!alignment) return absl::OkStatus();
    if (*alignment < 8 || *alignment > 65536 ||
        !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
      return InvalidArgument(
          "{}: general.alignment is {}; it must be a power of two, 8..65536",
          source_.name(), *alignment);
    }
    file_.alignment = *alignment;
    return absl::OkStatus();
  }

  absl::Status ParseTensor() {
    const int64_t at = header_.offset();
    GgufTensor tensor;
    ASSIGN_OR_RETURN(tensor.name,
                     header_.String("a tensor's name", kMaxNameBytes));
    if (!names_.insert(tensor.name).second) {
      return InvalidArgument("{}: tensor {} at offset {} appears twice",
                             source_.name(), tensor.name, at);
    }
    ASSIGN_OR_RETURN(const uint32_t num_dims, Read<uint32_t>(tensor.name));
    if (num_dims < 1 || num_dims > 4) {
      return InvalidArgument("{}: tensor {} at offset {} has {} dimensions",
                             source_.name(), tensor.name, at, num_dims);
    }
    for (uint32_t i = 0; i < num_dims; ++i) {
      ASSIGN_OR_RETURN(const uint64_t dim, Read<uint64_t>(tensor.name));
      if (dim < 1 || dim > static_cast<uint64_t>(kMaxDim)) {
        return InvalidArgument(
            "{}: tensor {} at offset {} has a dimension of {}", source_.name(),
            tensor.name, at, dim);
      }
      tensor.dims.push_back(static_cast<int64_t>(dim));
    }
    ASSIGN_OR_RETURN(const uint32_t type, Read<uint32_t>(tensor.name));
    RETURN_IF_ERROR(MeasureTensor(type, at, &tensor));
    ASSIGN_OR_RETURN(const uint64_t offset, Read<uint64_t>(tensor.name));
    if (offset % static_cast<uint64_t>(file_.alignment) != 0 ||
        offset > static_cast<uint64_t>(source_.size())) {
      return InvalidArgument(
          "{}: tensor {} at offset {} starts at {}, which is not a multiple "
          "of {} inside the file",
          source_.name(), tensor.name, at, offset, file_.alignment);
    }
    tensor.offset = static_cast<int64_t>(offset);
    file_.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::Status MeasureTensor(uint32_t type, int64_t at,
                             GgufTensor* tensor) const {
    const auto traits = kernels::FindQuantTraits(type);
    if (!traits) {
      return Unimplemented(
          "{}: tensor {} at offset {} has type {}; supported are F32, F16, "
          "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
          source_.name(), tensor->name, at, type);
    }
    tensor->type = traits->type;
    if (tensor->dims[0] % traits->block_values != 0) {
      return InvalidArgument(
          "{}: tensor {} at offset {} has rows of {} values, not a multiple "
          "of {}'s {}",
          source_.name(), tensor->name, at, tensor->dims[0], traits->name,
          traits->block_values);
    }
    int64_t bytes = tensor->dims[0] / traits->block_values;
    bool overflow = __builtin_mul_overflow(bytes, traits->block_bytes, &bytes);
    for (size_t i = 1; i < tensor->dims.size(); ++i) {
      overflow |= __builtin_mul_overflow(bytes, tensor->dims[i], &bytes);
    }
    if (overflow || bytes > source_.size()) {
      return InvalidArgument(
          "{}: tensor {} at offset {} has more bytes than the file",
          source_.name(), tensor->name, at);
    }
    tensor->bytes = bytes;
    return absl::OkStatus();
  }

  // Makes offsets absolute; every tensor inside the file, no two overlapping.
  absl::Status PlaceTensors() {
    const int64_t mask = file_.alignment - 1;
    file_.data_offset = (header_.offset() + mask) & ~mask;
    std::vector<const GgufTensor*> by_offset;
    for (GgufTensor& tensor : file_.tensors) {
      // Both terms are at most the file's size, so this cannot overflow.
      tensor.offset += file_.data_offset;
      if (tensor.offset > source_.size() ||
          tensor.bytes > source_.size() - tensor.offset) {
        return InvalidArgument(
            "{}: tensor {} needs {} bytes at offset {}, but the file has {}; "
            "it is truncated or lies about a length",
            source_.name(), tensor.name, tensor.bytes, tensor.offset,
            source_.size());
      }
      by_offset.push_back(&tensor);
    }
    std::ranges::sort(by_offset, {}, &GgufTensor::offset);
    for (size_t i = 1; i < by_offset.size(); ++i) {
      const GgufTensor& before = *by_offset[i - 1];
      const GgufTensor& after = *by_offset[i];
      if (before.offset + before.bytes > after.offset) {
        return InvalidArgument("{}: tensors {} and {} overlap at offset {}",
                               source_.name(), before.name, after.name,
                               after.offset);
      }
    }
    return absl::OkStatus();
  }

  const ByteSource& source_;
  HeaderReader header_;
  GgufFile file_;
  std::set<std::string, std::less<>> names_;
};

template <typename T>
absl::StatusOr<std::optional<T>> Find(const GgufFile& file,
                                      std::string_view key,
                                      std::string_view type) {
  const auto it = file.metadata.find(key);
  if (it == file.metadata.end()) return std::optional<T>();
  if (const T* value = std::get_if<T>(&it->second)) {
    return std::optional<T>(*value);
  }
  return InvalidArgument("key {} is not {}", key, type);
}

}  // namespace

absl::StatusOr<std::optional<int64_t>> GgufFile::Int(
    std::string_view key) const {
  return Find<int64_t>(*this, key, "an integer");
}

absl::StatusOr<std::optional<double>> GgufFile::Float(
    std::string_view key) const {
  return Find<double>(*this, key, "a floating-point number");
}

absl::StatusOr<std::optional<bool>> GgufFile::Bool(std::string_view key) const {
  return Find<bool>(*this, key, "a boolean");
}

absl::StatusOr<std::optional<std::string>> GgufFile::Text(
    std::string_view key) const {
  return Find<std::string>(*this, key, "a string");
}

absl::StatusOr<const GgufArray*> GgufFile::Array(std::string_view key,
                                                 GgufType element) const {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return static_cast<const GgufArray*>(nullptr);
  const auto* array = std::get_if<GgufArray>(&it->second);
  if (array == nullptr || array->element != element) {
    return InvalidArgument("key {} is not a list of type {}", key,
                           static_cast<uint32_t>(element));
  }
  return array;
}

absl::StatusOr<GgufFile> ParseGguf(const ByteSource& source) {
  return Parser(source).Parse();
}

}  // namespace conclave::weights
