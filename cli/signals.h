// SIGINT and SIGTERM as something to wait for. A second one ends the process
// at once.
#ifndef CONCLAVE_CLI_SIGNALS_H_
#define CONCLAVE_CLI_SIGNALS_H_

namespace conclave::cli {

// Call before any thread starts: threads inherit the blocked signals.
void BlockTerminationSignals();
// Returns the signal's number.
int WaitForTermination();

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_SIGNALS_H_
