// Where and of what a measurement was taken: the line that benches begin with.
#ifndef CONCLAVE_BASE_MACHINE_H_
#define CONCLAVE_BASE_MACHINE_H_

#include <string>

namespace conclave {

// "AMD EPYC, 2 cores, load 0.15, commit 1a2b3c4-dirty". The commit is that of
// the folder the process stands in; "unknown" outside a repository. Runs git.
std::string MachineLine();

}  // namespace conclave

#endif  // CONCLAVE_BASE_MACHINE_H_
