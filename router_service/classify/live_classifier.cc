#include "router_service/classify/live_classifier.h"

#include <utility>

namespace conclave::router {
namespace {

// Samples times categories that train within about 100 ms: above it a
// provisional classifier goes first.
constexpr size_t kQuickWork = 60'000;

}  // namespace

LiveClassifier::LiveClassifier(EmbedFn embed, absl::Duration retry)
    : embed_(std::move(embed)),
      retry_(retry),
      current_(Classifier::Train(
          std::make_shared<const TrainingSet>(MakeTrainingSet({})))),
      fast_thread_([this] { RunFast(); }),
      encoder_thread_([this] { RunEncoder(); }) {}

LiveClassifier::~LiveClassifier() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  fast_thread_.join();
  encoder_thread_.join();
}

void LiveClassifier::Update(MakeSet make) {
  {
    std::lock_guard lock(mutex_);
    make_ = std::move(make);
    ++asked_;
  }
  changed_.notify_all();
}

std::shared_ptr<const Classifier> LiveClassifier::current() const {
  return std::atomic_load(&current_);
}

bool LiveClassifier::WaitFor(const uint64_t& done,
                             absl::Duration timeout) const {
  std::unique_lock lock(mutex_);
  const uint64_t ticket = asked_;
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                           [&] { return done >= ticket; });
}

bool LiveClassifier::WaitForFast(absl::Duration timeout) const {
  return WaitFor(fast_done_, timeout);
}

bool LiveClassifier::WaitForAll(absl::Duration timeout) const {
  return WaitFor(all_done_, timeout);
}

std::string LiveClassifier::encoder_error() const {
  std::lock_guard lock(mutex_);
  return encoder_error_;
}

void LiveClassifier::TrainFast(const MakeSet& make, uint64_t ticket) {
  const std::shared_ptr<const TrainingSet> set = make();
  std::shared_ptr<const Classifier> trained;
  {
    std::lock_guard lock(mutex_);
    trained = full_;
  }
  const bool is_new =
      trained == nullptr || trained->training_set().version != set->version;
  const size_t work = set->texts.size() * set->categories.size();
  if (is_new && work > kQuickWork && trained != nullptr) {
    auto provisional = Classifier::Extend(*trained, set);
    if (provisional != nullptr) {
      std::lock_guard lock(mutex_);
      std::atomic_store(&current_, std::move(provisional));
      fast_done_ = ticket;
      changed_.notify_all();
    }
  }
  if (is_new) trained = Classifier::Train(set);
  std::lock_guard lock(mutex_);
  // The encoder thread may have finished for the same samples meanwhile.
  if (is_new || full_ == nullptr) full_ = std::move(trained);
  std::atomic_store(&current_, full_);
  fast_done_ = fast_trained_ = ticket;
  changed_.notify_all();
}

void LiveClassifier::TrainEncoder(std::shared_ptr<const Classifier> fast,
                                  uint64_t ticket) {
  const std::vector<std::string>& texts = fast->training_set().texts;
  if (embed_ == nullptr || texts.empty() || fast->has_encoder()) return;
  const auto still_wanted = [&] {
    std::lock_guard lock(mutex_);
    return !stop_ && asked_ == ticket;
  };
  const auto vectors = vectors_.Get(texts, embed_, still_wanted);
  std::shared_ptr<const Classifier> both;
  if (vectors.ok() && still_wanted()) {
    both = Classifier::WithEncoder(fast, *vectors);
    vectors_.KeepOnly(texts);
  }
  std::lock_guard lock(mutex_);
  if (both != nullptr && full_ == fast) {
    full_ = std::move(both);
    // A provisional classifier of a newer update stays in front.
    if (fast_done_ == fast_trained_) std::atomic_store(&current_, full_);
  }
  if (vectors.ok()) {
    encoder_error_.clear();
  } else if (vectors.status().code() != absl::StatusCode::kCancelled) {
    encoder_error_ = std::string(Message(vectors.status()));
  }
}

void LiveClassifier::RunFast() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || fast_trained_ < asked_; });
    if (stop_) return;
    const uint64_t ticket = asked_;
    const MakeSet make = make_;
    lock.unlock();
    TrainFast(make, ticket);
    lock.lock();
  }
}

void LiveClassifier::RunEncoder() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto has_news = [this] { return stop_ || all_done_ < fast_trained_; };
    if (encoder_error_.empty()) {
      changed_.wait(lock, has_news);
    } else {
      changed_.wait_for(lock, absl::ToChronoNanoseconds(retry_), has_news);
    }
    if (stop_) return;
    const uint64_t ticket = fast_trained_;
    std::shared_ptr<const Classifier> fast = full_;
    lock.unlock();
    TrainEncoder(std::move(fast), ticket);
    lock.lock();
    all_done_ = ticket;
    changed_.notify_all();
  }
}

}  // namespace conclave::router
