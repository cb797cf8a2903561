// Who of a snapshot's experts is joining and who serves.
//
//   joining <-> serving -> draining -> gone
//
// A registration says that an expert is to serve. It is joining while nobody
// can answer for it: its model is on no worker that has joined, or not on the
// one it is placed on, or its base is joining. An endpoint counts as there:
// only asking it tells more. So the two states are a function of the snapshot
// and no record: nothing has to be written when a worker comes or goes, and an
// expert's version does not change with it.
#ifndef CONCLAVE_REGISTRY_EXPERT_STATE_H_
#define CONCLAVE_REGISTRY_EXPERT_STATE_H_

#include <string>
#include <vector>

#include "registry/expert_spec.h"

namespace conclave::registry {

// Sets kJoining or kServing on every expert that is not draining. Returns the
// names of those that changed.
std::vector<std::string> SettleStates(Snapshot& state);

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_EXPERT_STATE_H_
