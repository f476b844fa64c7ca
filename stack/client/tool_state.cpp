// SPDX-License-Identifier: BSD-2-Clause
// latchkey stat, address, route, link: text from and to a host.
#include "stack/client/calls.hpp"
#include "stack/client/tool.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <sys/socket.h>
#include <unistd.h>

namespace latchkey::tool {

namespace {

using control::Op;

// The words that a command takes, and what they are in the protocol.
struct Verb {
    std::string_view command, word, alias;
    Op op;
    int number;
};

constexpr std::array verbs{
    Verb{"address", "list", "show", Op::address, 0}, Verb{"address", "add", "", Op::address, 1},
    Verb{"address", "delete", "del", Op::address, 2}, Verb{"route", "list", "show", Op::route, 0},
    Verb{"route", "add", "", Op::route, 1},           Verb{"route", "delete", "del", Op::route, 2},
    Verb{"link", "list", "show", Op::link, 0},        Verb{"link", "set", "", Op::link, 1},
};

const Verb* find_verb(std::string_view command, std::string_view word)
{
    const auto found = std::find_if(verbs.begin(), verbs.end(), [&](const Verb& verb) {
        return verb.command == command && (verb.word == word || (!verb.alias.empty() && verb.alias == word));
    });
    return found == verbs.end() ? nullptr : &*found;
}

int show(client::Host& host, Op op, int verb, const std::string& request, std::string_view what)
{
    std::string text;
    if (const int error = client::text_call(host, op, verb, request, text); error < 0)
        return fail(std::string(what) + ": " + host_reason(text, error));
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0
        ? exit_ok
        : fail(std::string(what) + ": cannot write the output");
}

}  // namespace

std::string host_reason(const std::string& text, int error)
{
    const auto line = text.substr(0, text.find('\n'));
    return line.empty() ? std::strerror(-error) : line;
}

int run_stat(const Command& self, Words words)
{
    std::string socket;
    bool raw = false;
    const std::array options{Option{"-r", "", "lines \"name value\", every counter",
                                    [&](std::string_view) { return raw = true; }},
                             socket_option(socket)};
    if (const auto done = take_options(self, options, words))
        return *done;
    if (!words.empty())
        return fail_usage(self, "unexpected word `" + std::string(words.front()) + "`");
    client::Host host;
    return open_host(host, socket) ? show(host, Op::stat, raw ? 1 : 0, "", "stat") : exit_failed;
}

int run_configure(const Command& self, Words words)
{
    std::string socket;
    const std::array options{socket_option(socket)};
    if (const auto done = take_options(self, options, words))
        return *done;
    const std::string_view word = words.empty() ? "list" : words.front();
    const auto* verb = find_verb(self.name, word);
    if (verb == nullptr) {
        std::vector<std::string_view> candidates;
        for (const auto& known : verbs)
            if (known.command == self.name)
                candidates.push_back(known.word);
        return fail_usage(self, "there is no `" + std::string(word) + "`" + suggestion(word, candidates));
    }
    const bool lists = verb->number == 0;
    const auto rest = words.empty() ? words : words.subspan(1);
    if (lists != rest.empty())
        return fail_usage(self, lists ? "unexpected word `" + std::string(rest.front()) + "`"
                                      : std::string(word) + " what?");
    std::string request;
    for (const char* part : rest)
        request += (request.empty() ? "" : " ") + std::string(part);
    client::Host host;
    if (!open_host(host, socket))
        return exit_failed;
    return show(host, verb->op, verb->number, request,
                std::string(self.name) + " " + std::string(verb->word) + (lists ? "" : " ") + request);
}

int run_monitor(const Command& self, Words words)
{
    std::string socket;
    const std::array options{socket_option(socket)};
    if (const auto done = take_options(self, options, words))
        return *done;
    if (!words.empty())
        return fail_usage(self, "unexpected word `" + std::string(words.front()) + "`");
    client::Host host;
    if (!open_host(host, socket))
        return exit_failed;
    const int fd = client::open_socket(host, AF_UNSPEC, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail("monitor: " + std::string(std::strerror(-fd)));
    std::printf("watching\n");
    std::fflush(stdout);
    std::array<char, 4096> line{};
    ssize_t got = 0;
    while ((got = ::read(fd, line.data(), line.size())) > 0 || (got < 0 && errno == EINTR)) {
        if (got > 0)
            std::fwrite(line.data(), 1, static_cast<std::size_t>(got), stdout);
        std::fflush(stdout);
    }
    ::close(fd);
    return fail("monitor: the host has ended");
}

}  // namespace latchkey::tool
