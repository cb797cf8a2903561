#include "bench/clinc_bench/clinc_data.h"

#include <zlib.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace conclave::bench {
namespace {

absl::StatusOr<std::string> ReadGzip(const std::string& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) return NotFound("{} is not there", path);
  std::string text;
  std::array<char, 1 << 16> buffer;
  int got = 0;
  while ((got = gzread(file, buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), got);
  }
  gzclose(file);
  if (got < 0) return DataLoss("{} does not unpack", path);
  return text;
}

absl::Status ReadVectors(const std::string& path, Clinc* clinc) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::OkStatus();
  uint32_t shape[2] = {0, 0};
  file.read(reinterpret_cast<char*>(shape), sizeof(shape));
  const size_t rows =
      clinc->train.size() + clinc->val.size() + clinc->out_of_scope.size();
  if (shape[0] != rows || shape[1] == 0 || shape[1] > 4096) {
    return DataLoss("{} holds {} x {}; {} rows are needed", path, shape[0],
                    shape[1], rows);
  }
  for (auto* split : {&clinc->train, &clinc->val, &clinc->out_of_scope}) {
    for (ClincRow& row : *split) {
      row.vector.resize(shape[1]);
      file.read(reinterpret_cast<char*>(row.vector.data()),
                static_cast<std::streamsize>(shape[1] * sizeof(float)));
    }
  }
  if (!file) return DataLoss("{} is too short", path);
  clinc->has_vectors = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Clinc> LoadClinc(const std::string& folder,
                                const std::string& vectors_path) {
  ASSIGN_OR_RETURN(const std::string text,
                   ReadGzip(folder + "/clinc150_train_val.json.gz"));
  std::ifstream domains_file(folder + "/clinc150_domains.json");
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto domains = nlohmann::json::parse(domains_file, nullptr, false);
  if (!json.is_object() || !domains.is_object()) {
    return DataLoss("the files in {} are not JSON objects", folder);
  }
  std::map<std::string, std::string> domain_of;
  for (const auto& [domain, intents] : domains.items()) {
    for (const auto& intent : intents) {
      domain_of[intent.get<std::string>()] = domain;
    }
  }
  Clinc clinc;
  const auto append = [&](const char* split, std::vector<ClincRow>* rows) {
    for (const auto& pair : json.at(split)) {
      ClincRow row;
      row.text = pair.at(0).get<std::string>();
      row.intent = pair.at(1).get<std::string>();
      const auto found = domain_of.find(row.intent);
      row.domain = found == domain_of.end() ? "oos" : found->second;
      rows->push_back(std::move(row));
    }
  };
  append("train", &clinc.train);
  append("val", &clinc.val);
  append("oos_train", &clinc.out_of_scope);
  append("oos_val", &clinc.out_of_scope);
  RETURN_IF_ERROR(ReadVectors(vectors_path, &clinc));
  return clinc;
}

}  // namespace conclave::bench
