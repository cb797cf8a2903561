// Where a process runs and what it takes there.
#ifndef CONCLAVE_BASE_MACHINE_H_
#define CONCLAVE_BASE_MACHINE_H_

#include <cstdint>
#include <string>

namespace conclave {

// Where and of what a measurement was taken, the line that benches begin with:
// "AMD EPYC, avx512, 2 cores, load 0.15, commit 1a2b3c4-dirty". The set is the
// best that the processor has, which is what runs unless a bench is told
// otherwise. The commit is that of the folder the process stands in; "unknown"
// outside a repository. Runs git.
std::string MachineLine();

// Memory of this process that is in RAM now; 0 when the system does not say.
int64_t ProcessResidentBytes();

}  // namespace conclave

#endif  // CONCLAVE_BASE_MACHINE_H_
