// SPDX-License-Identifier: BSD-2-Clause
// setkey(8): manual control of the SAs and policies of a Latchkey host.
#include "setkey/check.hpp"
#include "setkey/monitor.hpp"
#include "setkey/options.hpp"

#include <latchkey/host.h>
#include <latchkey/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
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

std::string script_name(const Invocation& invocation)
{
    return invocation.file == "-" ? "stdin" : invocation.file;
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

// -D; with -l again and again, until interrupted or until the host is gone.
void run_dump(Runner& runner, const Output& out, const Invocation& invocation)
{
    const auto verb = invocation.policies ? Verb::spd_dump : Verb::dump;
    if (invocation.interfaces)
        return runner.show_nothing(verb);
    while (runner.run(verb) && invocation.runner.brief && out.error() == 0)
        sleep(1);
}

// ---- -x -------------------------------------------------------------------------------------------------------------

// SIGINT and SIGTERM end the monitor in good order: what it has taken in is written first.
volatile std::sig_atomic_t interrupted = 0;
std::array<int, 2> interruption{-1, -1};   // a pipe: wakes the monitor

void interrupt(int)
{
    const int error = errno;
    interrupted = 1;
    [[maybe_unused]] const auto written = write(interruption[1], "", 1);
    errno = error;
}

bool catch_interrupts()
{
    if (pipe2(interruption.data(), O_CLOEXEC | O_NONBLOCK) != 0)
        return complain("pipe", errno), false;
    struct sigaction action{};
    action.sa_handler = interrupt;   // without SA_RESTART: a write that blocks ends, too
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    return true;
}

int run_monitor(const Invocation& invocation, KeyChannel& channel, Output& out)
{
    MonitorOptions options;
    options.pid = invocation.runner.pid;
    options.raw_time = invocation.raw_time;
    options.hex = invocation.runner.hex;
    options.one_line = invocation.runner.one_line;
    options.json = invocation.runner.json;
    options.with = invocation.runner.with;
    options.now = [] {
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    };
    options.stopped = [] { return interrupted != 0; };
    return Monitor(channel, std::move(options), out, stderr).run() ? 0 : 1;
}

// ---- tasks ----------------------------------------------------------------------------------------------------------

int run(const Invocation& invocation, KeyChannel& channel, Output& out)
{
    if (invocation.task == Task::monitor)
        return run_monitor(invocation, channel, out);
    Text script;
    if (invocation.task == Task::file && !read_file(invocation.file, script))
        return 1;
    Runner runner(channel, invocation.runner, out, stderr);
    if (runner.greet()) {
        const Source source(script_name(invocation), script.view());
        switch (invocation.task) {
        case Task::commands: run_standard_input(runner); break;
        case Task::file: invocation.atomic ? runner.run_as_one(source) : void(runner.run(source)); break;
        case Task::dump: run_dump(runner, out, invocation); break;
        case Task::flush: runner.run(invocation.policies ? Verb::spd_flush : Verb::flush); break;
        default: break;
        }
    }
    return exit_status(invocation, runner.refused(), runner.unreadable(), runner.lost());
}

// --check: no host is asked.
int check(const Invocation& invocation)
{
    Text script;
    if (!read_file(invocation.file, script))
        return 1;
    const Source source(script_name(invocation), script.view());
    const auto report = check_script(source, invocation.runner.parse);
    struct Line {
        const Diagnostic* diagnostic;
        bool error;
    };
    std::vector<Line> lines;
    for (const auto& error : report.errors)
        lines.push_back({&error, true});
    for (const auto& warning : report.warnings)
        lines.push_back({&warning, false});
    std::ranges::stable_sort(lines, {}, [](const Line& line) { return line.diagnostic->offset; });
    for (const auto& [diagnostic, error] : lines) {
        const char* kind = !error                                            ? "warning: "
                           : diagnostic->kind == Diagnostic::Kind::syntax    ? "syntax error: "
                                                                             : "";
        std::fprintf(stderr, "setkey: %s: %s%s\n", source.where(diagnostic->offset).c_str(), kind,
                     diagnostic->text.c_str());
    }
    if (invocation.runner.verbose)
        std::printf("%zu commands, %zu errors, %zu warnings\n", report.commands, report.errors.size(),
                    report.warnings.size());
    return report.errors.empty() ? 0 : 1;
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
    return std::optional<FdChannel>(std::in_place, fd, interruption[0]);
}

// One saved record, in the way that the monitor shows it.
void show_record(Output& out, const RunnerOptions& options, Bytes record)
{
    if (options.json) {
        append_json_record(out.text, record, -1, options.with);
        out.text += '\n';
    } else if (options.one_line) {
        append_summary(out.text, record);
    } else {
        append_record(out.text, record);
        if (options.hex)
            append_hex_dump(out.text, record);
    }
    out.flush_if_large();
}

// Records as they were saved from a key socket, one after the other.
bool show_file(const std::string& name, Output& out, const RunnerOptions& options)
{
    Text text;
    if (!read_file(name, text))
        return false;
    const std::vector<std::uint8_t> bytes(text.view().begin(), text.view().end());
    if (const auto header = peek_header(bytes); !bytes.empty() && (!header || header->version != PF_KEY_V2)) {
        std::fprintf(stderr, "setkey: %s: no PF_KEY messages are saved here; commands are read with -f\n", name.c_str());
        return false;
    }
    for (Bytes rest(bytes); !rest.empty();) {
        const auto header = peek_header(rest);
        const auto size = header ? std::size_t{header->units} * 8 : 0;
        const bool whole = size >= 16 && size <= rest.size();
        const auto record = whole ? rest.first(size) : rest;
        show_record(out, options, record);
        rest = rest.subspan(record.size());
    }
    out.flush();
    return true;
}

int show_files(const Invocation& invocation, Output& out)
{
    bool all = true;
    for (const auto& file : invocation.files)
        all = show_file(file, out, invocation.runner) && all;
    return all ? 0 : 1;
}

// A full disk, or a reader that is gone.
int written(int status, const Output& out)
{
    const bool lost = out.error() != 0 && interrupted == 0;
    return lost ? complain("standard output", out.error()) : status;
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
    if (invocation->task == Task::check)
        return check(*invocation);
    Output out(stdout);
    if (invocation->task == Task::show)
        return written(show_files(*invocation, out), out);
    invocation->runner.pid = static_cast<std::uint32_t>(getpid());
    invocation->runner.now = [] { return static_cast<std::int64_t>(std::time(nullptr)); };
    if (invocation->task == Task::monitor && !catch_interrupts())
        return 1;
    auto channel = open_channel(invocation->socket);
    return channel ? written(run(*invocation, *channel, out), out) : 1;
}
