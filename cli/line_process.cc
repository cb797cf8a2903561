#include "cli/line_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace conclave::cli {
namespace {

class OwnedProcess final : public LineProcess {
 public:
  OwnedProcess(std::string name, pid_t pid, FILE* to, FILE* from)
      : name_(std::move(name)), pid_(pid), to_(to), from_(from) {}
  ~OwnedProcess() override {
    std::fclose(to_);
    std::fclose(from_);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  absl::StatusOr<std::string> Ask(const std::string& line) override {
    // A program that has ended is seen when nothing is read.
    if (!line.empty()) {
      std::fputs((line + "\n").c_str(), to_);
      std::fflush(to_);
    }
    char* text = nullptr;
    size_t capacity = 0;
    const ssize_t length = getline(&text, &capacity, from_);
    std::string answer(text == nullptr || length < 0 ? "" : text);
    std::free(text);
    if (length < 0) return Unavailable("{} has ended", name_);
    while (!answer.empty() && answer.back() == '\n') answer.pop_back();
    return answer;
  }

 private:
  const std::string name_;
  const pid_t pid_;
  FILE* const to_;
  FILE* const from_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LineProcess>> LineProcess::Start(
    const std::vector<std::string>& command) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0) {
    return Unavailable("no pipe: {}", std::strerror(errno));
  }
  if (pipe2(out, O_CLOEXEC) != 0) {
    close(in[0]);
    close(in[1]);
    return Unavailable("no pipe: {}", std::strerror(errno));
  }
  std::vector<char*> arguments;
  for (const std::string& word : command) {
    arguments.push_back(const_cast<char*>(word.c_str()));
  }
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, command.front().c_str(), &actions,
                                 nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  if (error != 0) {
    close(in[1]);
    close(out[0]);
    return NotFound("{}: {}", command.front(), std::strerror(error));
  }
  return std::unique_ptr<LineProcess>(std::make_unique<OwnedProcess>(
      command.front(), pid, fdopen(in[1], "w"), fdopen(out[0], "r")));
}

}  // namespace conclave::cli
