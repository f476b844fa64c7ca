// SPDX-License-Identifier: BSD-2-Clause
// setkey(8): manual control of the SAs and policies of a Latchkey host.
#include "setkey/options.hpp"

#include <latchkey/host.h>
#include <latchkey/socket.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <optional>
#include <sodium/utils.h>
#include <unistd.h>

#ifndef LATCHKEY_VERSION
#define LATCHKEY_VERSION "unknown"
#endif

namespace {

using namespace latchkey;
using namespace latchkey::setkey;

constexpr int usage_error = 2;

// Whole file contents; they hold keys, so they do not outlive their use.
class Text {
public:
    Text() = default;
    Text(const Text&) = delete;
    Text& operator=(const Text&) = delete;

    ~Text()
    {
        bytes_.resize(bytes_.capacity());   // what drop() moved left copies behind
        sodium_memzero(bytes_.data(), bytes_.size());
    }

    // Appends what one read() gives. 0: the end; -1: errno.
    ssize_t read_some(int fd)
    {
        constexpr std::size_t piece = 65536;
        if (bytes_.capacity() - bytes_.size() < piece)
            grow(std::max(bytes_.size() * 2, piece * 2));
        const auto used = bytes_.size();
        bytes_.resize(used + piece);
        ssize_t n = 0;
        do
            n = read(fd, bytes_.data() + used, piece);
        while (n < 0 && errno == EINTR);
        bytes_.resize(used + static_cast<std::size_t>(n > 0 ? n : 0));
        return n;
    }

    void drop(std::size_t n)
    {
        bytes_.erase(0, n);
    }

    std::string_view view() const { return bytes_; }

private:
    // By hand, to wipe the old copy.
    void grow(std::size_t capacity)
    {
        std::string larger;
        larger.reserve(capacity);
        larger = bytes_;
        sodium_memzero(bytes_.data(), bytes_.size());
        bytes_.swap(larger);
    }

    std::string bytes_;
};

int complain(const std::string& what, int error)
{
    std::fprintf(stderr, "setkey: %s: %s\n", what.c_str(), std::strerror(error));
    return 1;
}

// Reads a file, or standard input for "-". False: told.
bool read_file(const std::string& name, Text& into)
{
    const bool standard = name == "-";
    const int fd = standard ? STDIN_FILENO : open(name.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return complain(name, errno), false;
    ssize_t n = 0;
    while ((n = into.read_some(fd)) > 0)
        ;
    const int error = errno;
    if (!standard)
        close(fd);
    return n == 0 || (complain(name, error), false);
}

Position advance(Position at, std::string_view text)
{
    for (const char c : text)
        at = c == '\n' ? Position{at.line + 1, 1} : Position{at.line, at.column + 1};
    return at;
}

// -c: every command runs as soon as it is complete, so that a person or a pipe sees its answer.
void run_standard_input(Runner& runner)
{
    Text text;
    Position at;
    bool more = true;
    while (more) {
        const auto n = text.read_some(STDIN_FILENO);
        if (n < 0)
            complain("standard input", errno);
        const bool last = n <= 0;
        const auto ready = text.view().substr(0, last ? text.view().size() : complete_commands(text.view()));
        if (!ready.empty())
            more = runner.run(Source("stdin", ready, at));
        at = advance(at, ready);
        text.drop(ready.size());
        more = more && !last;
    }
}

// -D -l: again and again, until interrupted or until the host is gone.
void run_dump(Runner& runner, const Invocation& invocation)
{
    const Source command("-D", invocation.policies ? "spddump;" : "dump;");
    while (runner.run(command) && invocation.runner.brief)
        sleep(1);
}

int run(const Invocation& invocation, KeyChannel& channel)
{
    Text script;
    if (invocation.task == Task::file && !read_file(invocation.file, script))
        return 1;
    Runner runner(channel, invocation.runner, stdout, stderr);
    switch (invocation.task) {
    case Task::commands:
        if (runner.greet())
            run_standard_input(runner);
        break;
    case Task::file:
        if (runner.greet())
            runner.run(Source(invocation.file == "-" ? "stdin" : invocation.file, script.view()));
        break;
    case Task::dump: run_dump(runner, invocation); break;
    case Task::flush: runner.run(Source("-F", invocation.policies ? "spdflush;" : "flush;")); break;
    case Task::monitor: runner.monitor(invocation.raw_time); break;
    default: break;
    }
    return exit_status(invocation, runner.refused(), runner.unreadable(), runner.lost());
}

// A key socket of the host. Empty: told.
std::optional<FdChannel> open_channel(const std::string& socket)
{
    const char* path = socket.empty() ? nullptr : socket.c_str();
    char shown[128] = "the default host";
    latchkey_host_path(path, shown, sizeof shown);
    latchkey_host* host = latchkey_host_open(path);
    if (host == nullptr)
        return complain(shown, errno), std::nullopt;
    const int fd = latchkey_pfkey_open(host);
    const int error = errno;
    latchkey_host_close(host);
    if (fd < 0)
        return complain(std::string(shown) + ": key socket", error), std::nullopt;
    return std::optional<FdChannel>(std::in_place, fd);
}

// Records as they were saved from a key socket, one after the other.
int show_file(const Invocation& invocation)
{
    Text text;
    if (!read_file(invocation.file, text))
        return 1;
    std::vector<std::uint8_t> bytes(text.view().begin(), text.view().end());
    std::string out;
    for (Bytes rest(bytes); !rest.empty();) {
        const auto header = peek_header(rest);
        const auto size = header ? std::size_t{header->units} * 8 : 0;
        const bool whole = size >= 16 && size <= rest.size();
        const auto record = whole ? rest.first(size) : rest;
        append_record(out, record);
        if (invocation.runner.hex)
            append_hex_dump(out, record);
        rest = rest.subspan(record.size());
    }
    std::fwrite(out.data(), 1, out.size(), stdout);
    return 0;
}

}  // namespace

int main(int argc, char** argv)
{
    auto invocation = parse_options(argc, argv);
    if (!invocation) {
        std::fprintf(stderr, "setkey: %s\nTry 'setkey --help'.\n", invocation.error().c_str());
        return usage_error;
    }
    if (invocation->task == Task::help)
        return std::fputs(usage().c_str(), stdout) < 0;
    if (invocation->task == Task::version)
        return std::puts("setkey (Latchkey) " LATCHKEY_VERSION) < 0;
    if (invocation->task == Task::show)
        return show_file(*invocation);
    invocation->runner.pid = static_cast<std::uint32_t>(getpid());
    invocation->runner.now = [] { return static_cast<std::int64_t>(std::time(nullptr)); };
    auto channel = open_channel(invocation->socket);
    return channel ? run(*invocation, *channel) : 1;
}
