#include "cli/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>

namespace conclave::cli {
namespace {

sigset_t TerminationSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

void BlockTerminationSignals() {
  const sigset_t set = TerminationSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

int WaitForTermination() {
  const sigset_t set = TerminationSignals();
  int signal_number = 0;
  sigwait(&set, &signal_number);
  // The impatient second signal.
  std::signal(SIGINT, [](int) { _exit(130); });
  std::signal(SIGTERM, [](int) { _exit(143); });
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  return signal_number;
}

}  // namespace conclave::cli
