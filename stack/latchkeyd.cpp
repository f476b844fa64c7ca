// SPDX-License-Identifier: BSD-2-Clause
// latchkeyd: one host, one process, one thread.
#include "stack/options.hpp"
#include "stack/reactor.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sodium/core.h>
#include <sodium/randombytes.h>
#include <sodium/randombytes_internal_random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

extern "C" {   // glibc before 2.37 does not say so itself
#include <sys/pidfd.h>
}

namespace latchkey {

namespace {

constexpr int exit_cannot_start = 1, exit_bad_arguments = 2;

int complain(const std::string& text, int status)
{
    std::fprintf(stderr, "latchkeyd: %s\n", text.c_str());
    return status;
}

std::string reason(int error)
{
    return std::string(": ") + std::strerror(error);
}

// " (0 to 2)", for a value that was refused; nothing if it is the name that is wrong.
std::string range_of(std::string_view tunable)
{
    const auto id = find_tunable(tunable);
    if (!id)
        return {};
    const auto& row = tunables[static_cast<std::size_t>(*id)];
    return " (" + std::to_string(row.min) + " to " + std::to_string(row.max) + ")";
}

// Runs before anything else has threads or descriptors. The parent stays until the child says that the host is ready (or
// has failed), so that a script may go on as soon as the command returns.
class Background {
public:
    // Returns in the child; the parent exits here.
    std::string enter()
    {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0)
            return "pipe" + reason(errno);
        const pid_t child = fork();
        if (child < 0)
            return "fork" + reason(errno);
        if (child > 0) {
            ::close(ends[1]);
            char byte = 0;
            ssize_t n = 0;
            while ((n = ::read(ends[0], &byte, 1)) < 0 && errno == EINTR) {
            }
            if (n == 1)
                _exit(0);
            int status = 0;
            waitpid(child, &status, 0);
            _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : exit_cannot_start);
        }
        ::close(ends[0]);
        ready_ = ends[1];
        setsid();
        return {};
    }

    void ready()
    {
        if (ready_ < 0)
            return;
        if (const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC); null >= 0) {
            dup2(null, STDIN_FILENO);
            dup2(null, STDOUT_FILENO);
            dup2(null, STDERR_FILENO);
        }
        (void)!::write(ready_, "\n", 1);
        ::close(ready_);
        ready_ = -1;
    }

private:
    int ready_ = -1;
};

// setkey(8) is a program of its own and talks PF_KEY to this host like any other client.
pid_t start_setkey(const std::string& script, const std::string& socket)
{
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    const auto beside = (self.parent_path() / "setkey").string();
    const pid_t child = fork();
    if (child != 0)
        return child;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    setenv("LATCHKEY", socket.c_str(), 1);
    if (::access(beside.c_str(), X_OK) == 0)
        execl(beside.c_str(), "setkey", "-f", script.c_str(), static_cast<char*>(nullptr));
    else
        execlp("setkey", "setkey", "-f", script.c_str(), static_cast<char*>(nullptr));
    std::fprintf(stderr, "latchkeyd: cannot run setkey: %s\n", std::strerror(errno));
    _exit(127);
}

void announce(const DaemonOptions& options, Background& background)
{
    if (options.foreground) {
        std::printf("ready\n");
        std::fflush(stdout);
    }
    if (options.ready_fd >= 0) {
        (void)!::write(options.ready_fd, "ready\n", 6);
        ::close(options.ready_fd);
    }
    background.ready();
}

int serve(const DaemonOptions& options, Host& host, Door& door, std::vector<std::unique_ptr<Wire>>& wires, Background& background)
{
    sigset_t signals;
    sigemptyset(&signals);
    for (const int s : {SIGTERM, SIGINT, SIGHUP})
        sigaddset(&signals, s);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);

    Reactor reactor(host, door, wires);
    reactor.watch(signal_fd);
    pid_t loader = -1;
    int loader_fd = -1;
    if (options.setkey.empty()) {
        announce(options, background);
    } else {
        loader = start_setkey(options.setkey, options.socket);
        loader_fd = loader > 0 ? pidfd_open(loader, 0) : -1;
        if (loader_fd < 0 || !reactor.watch(loader_fd))
            return complain("cannot start setkey" + reason(errno), exit_cannot_start);
    }
    for (;;) {
        const int fd = reactor.turn();
        if (fd == signal_fd)
            return 0;
        if (fd == loader_fd && fd >= 0) {
            int status = 0;
            waitpid(loader, &status, 0);
            ::close(loader_fd);
            loader_fd = -1;
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return complain("--setkey " + options.setkey + ": not everything in it was accepted", exit_cannot_start);
            announce(options, background);
        }
    }
}

std::expected<std::vector<std::unique_ptr<Wire>>, std::string> open_wires(const DaemonOptions& options)
{
    std::vector<std::unique_ptr<Wire>> wires;
    for (const auto& spec : options.wires) {
        auto wire = open_wire(spec);
        if (!wire)
            return std::unexpected("--wire " + spec.kind + ":" + spec.target + ": " + wire.error());
        wires.push_back(std::move(*wire));
    }
    return wires;
}

int run(DaemonOptions options)
{
    if (options.socket.empty())
        options.socket = default_socket_path();
    if (options.socket.empty())
        return complain("--socket is needed: neither $LATCHKEY nor $XDG_RUNTIME_DIR is set", exit_bad_arguments);
    if (options.socket == "/run/latchkey/latchkey.sock")
        ::mkdir("/run/latchkey", 0755);
    std::error_code error;
    options.socket = std::filesystem::absolute(options.socket, error).string();
    if (!options.setkey.empty() && ::access(options.setkey.c_str(), R_OK) != 0)
        return complain("--setkey " + options.setkey + reason(errno), exit_cannot_start);

    Background background;
    if (!options.foreground)
        if (const auto wrong = background.enter(); !wrong.empty())
            return complain(wrong, exit_cannot_start);
    randombytes_set_implementation(&randombytes_internal_implementation);   // in user space: a system call per IV costs more than AES
    if (sodium_init() < 0)
        return complain("libsodium does not start", exit_cannot_start);

    auto wires = open_wires(options);
    if (!wires)
        return complain(wires.error(), exit_cannot_start);
    SystemRng rng;
    const Time now = monotonic_now();
    options.host.wall_offset = ::time(nullptr) - std::chrono::duration_cast<std::chrono::seconds>(now).count();
    options.host.owner = geteuid();
    auto host = Host::create(options.host, rng, now);
    if (!host)
        return complain(host.error(), exit_cannot_start);
    for (const auto& assignment : options.tunables) {
        const auto equals = assignment.find('=');
        if (const auto set = (*host)->set_tunable(assignment.substr(0, equals), assignment.substr(equals + 1)); !set)
            return complain("--sysctl " + assignment + ": " + std::string(set.error().reason) +
                                range_of(assignment.substr(0, equals)), exit_bad_arguments);
    }
    openlog("latchkeyd", LOG_PID, LOG_DAEMON);
    (*host)->log = [&](std::string_view line) {   // in the background nobody reads stderr
        if (options.foreground)
            std::fprintf(stderr, "latchkeyd: %.*s\n", static_cast<int>(line.size()), line.data());
        else
            syslog(LOG_INFO, "%.*s", static_cast<int>(line.size()), line.data());
    };
    (*host)->frame_out = [&](unsigned port, Bytes frame) { (*wires)[port]->send(frame, monotonic_now()); };

    auto door = Door::open(options.socket, (*host)->sockets(), **host);
    if (!door)
        return complain("--socket " + options.socket + ": " + door.error(), exit_cannot_start);
    (*host)->on_change = [&](std::string_view event) { (*door)->publish(event); };
    const int status = serve(options, **host, **door, *wires, background);
    (*host)->on_change = nullptr;
    return status;
}

}  // namespace

}  // namespace latchkey

int main(int argc, char** argv)
{
    using namespace latchkey;
    auto options = parse_options({argv + 1, static_cast<std::size_t>(argc > 0 ? argc - 1 : 0)});
    if (!options)
        return complain(options.error(), exit_bad_arguments);
    switch (options->action) {
    case DaemonOptions::Action::help: std::fputs(options_help().c_str(), stdout); return 0;
    case DaemonOptions::Action::version: std::puts("latchkeyd " LATCHKEY_VERSION); return 0;
    case DaemonOptions::Action::run: break;
    }
    return run(std::move(*options));
}
