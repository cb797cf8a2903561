// bench/llama_cpp_peer.py as the build found it, so that an installed binary
// can run it: `python3 -c kLlamaCppPeer --model FILE ...`.
#ifndef CONCLAVE_CLI_LLAMA_CPP_PEER_H_
#define CONCLAVE_CLI_LLAMA_CPP_PEER_H_

namespace conclave::cli {

extern const char kLlamaCppPeer[];

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_LLAMA_CPP_PEER_H_
