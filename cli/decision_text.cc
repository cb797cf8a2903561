#include "cli/decision_text.h"

#include <fmt/core.h>

#include <vector>

#include "cli/terminal.h"

namespace conclave::cli {

std::string DecisionLine(const v1::Decision& decision) {
  if (decision.tier() == "bypass") {
    return fmt::format("{} <- asked for by name",
                       Styled(decision.expert(), Style::kGreen));
  }
  return fmt::format("{} <- {} ({:.0f}% sure): {}",
                     Styled(decision.expert(), Style::kGreen),
                     Styled(decision.category(), Style::kCyan),
                     100 * decision.confidence(), decision.why());
}

std::string DecisionText(const v1::Decision& decision) {
  std::string text = DecisionLine(decision) + "\n";
  text += fmt::format("  tier {}, novelty {:.2f}, {} us, request {}\n",
                      decision.tier(), decision.novelty(), decision.router_us(),
                      decision.request_id());
  if (decision.candidates_size() == 0) return text;
  std::vector<std::vector<std::string>> rows = {
      {"  CANDIDATE", "QUALITY", "COST", "SCORE", "PROPENSITY", "WHY"}};
  for (const auto& candidate : decision.candidates()) {
    rows.push_back(
        {"  " + candidate.expert(), fmt::format("{:.3f}", candidate.quality()),
         fmt::format("{:.3f}", candidate.cost()),
         fmt::format("{:.3f}", candidate.score()),
         fmt::format("{:.3f}", candidate.propensity()), candidate.why()});
  }
  return text + Table(rows);
}

}  // namespace conclave::cli
