#include "cli/speed_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/terminal.h"

namespace conclave::cli {
namespace {

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string Number(double value) {
  return value < 100 ? fmt::format("{:.1f}", value)
                     : fmt::format("{:.0f}", value);
}

std::string Percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f} %", 100 * part / whole) : "";
}

// `tokens_a_pass` tokens share one pass over the weights; 0: what is read does
// not bound this.
std::vector<std::string> Row(const char* what, const Speeds& speeds,
                             double tokens_a_pass, const ModelSpeed& model,
                             const SpeedLimits& limits) {
  const double ours = Median(speeds.ours);
  const double peer = Median(speeds.peer);
  const double read =
      tokens_a_pass > 0
          ? ours / tokens_a_pass * static_cast<double>(model.token_bytes)
          : 0;
  const double ops = ours * static_cast<double>(model.token_ops);
  return {what,
          Number(ours),
          peer > 0 ? Number(peer) : "-",
          peer > 0 ? fmt::format("{:.2f}", ours / peer) : "-",
          read > 0 ? Number(read / 1e9) + " GB/s" : "",
          read > 0 ? Percent(read, limits.read_bytes_per_second) : "",
          Number(ops / 1e9) + " GOP/s",
          Percent(ops, limits.int8_ops_per_second)};
}

nlohmann::ordered_json ToJson(const Speeds& speeds) {
  return {{"ours", speeds.ours}, {"llama_cpp", speeds.peer}};
}

}  // namespace

std::string SpeedText(const SpeedReport& report) {
  const SpeedLimits& limits = report.limits;
  std::string text = fmt::format(
      "{}\n{} threads, {}; prompt of {} tokens and {} behind it; {} streams "
      "behind prompts of {}\nmedians of {}, tokens per second; this machine "
      "reads {} GB/s{}\n",
      report.machine, report.threads, limits.isa, report.prompt,
      report.generate, report.streams, report.stream_prompt, report.rounds,
      Number(limits.read_bytes_per_second / 1e9),
      limits.int8_ops_per_second > 0
          ? fmt::format(", multiplies {} GOP/s in int8",
                        Number(limits.int8_ops_per_second / 1e9))
          : "");
  for (const ModelSpeed& model : report.models) {
    text += fmt::format("\n{}: a token reads {:.0f} MB, {:.2f} GOP\n",
                        Styled(model.name, Style::kBold),
                        static_cast<double>(model.token_bytes) / 1e6,
                        static_cast<double>(model.token_ops) / 1e9);
    text += Table(
        {{"", "OURS", "LLAMA.CPP", "RATIO", "READS", "OF LIMIT", "MULTIPLIES",
          "OF LIMIT"},
         Row("prompt", model.prompt, 0, model, limits),
         Row("one stream", model.one, 1, model, limits),
         Row(fmt::format("{} streams", report.streams).c_str(), model.streams,
             static_cast<double>(report.streams), model, limits)});
    // What is said of all is said once, at the end.
    if (&model != &report.models.back() &&
        model.no_peer == report.models.back().no_peer) {
      continue;
    }
    if (!model.no_peer.empty()) text += model.no_peer + "\n";
  }
  return text;
}

std::string SpeedJson(const SpeedReport& report) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  for (const ModelSpeed& model : report.models) {
    models.push_back({{"name", model.name},
                      {"token_bytes", model.token_bytes},
                      {"token_ops", model.token_ops},
                      {"prompt_tokens_per_second", ToJson(model.prompt)},
                      {"one_stream_tokens_per_second", ToJson(model.one)},
                      {"streams_tokens_per_second", ToJson(model.streams)},
                      {"without_llama_cpp", model.no_peer}});
  }
  const nlohmann::ordered_json line = {
      {"machine", report.machine},
      {"threads", report.threads},
      {"prompt_tokens", report.prompt},
      {"generated_tokens", report.generate},
      {"streams", report.streams},
      {"stream_prompt_tokens", report.stream_prompt},
      {"rounds", report.rounds},
      {"llama_cpp_python", report.peer_version},
      {"limits",
       {{"isa", report.limits.isa},
        {"read_bytes_per_second", report.limits.read_bytes_per_second},
        {"int8_ops_per_second", report.limits.int8_ops_per_second}}},
      {"models", models}};
  return line.dump() + "\n";
}

}  // namespace conclave::cli
