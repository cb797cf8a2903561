// The journal's feedback as the policy reads it.
#ifndef CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_ESTIMATES_H_
#define CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_ESTIMATES_H_

#include "router_service/journal/journal.h"
#include "router_service/select/quality.h"

namespace conclave::router {

class JournalEstimates final : public QualityEstimates {
 public:
  // Borrows it.
  explicit JournalEstimates(const Journal* journal) : journal_(journal) {}

  Observed Get(std::string_view category, std::string_view expert,
               uint64_t expert_version) const override {
    const FeedbackSummary summary =
        journal_->Feedback(category, expert, expert_version);
    return {summary.sum, static_cast<double>(summary.count)};
  }

 private:
  const Journal* const journal_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_ESTIMATES_H_
