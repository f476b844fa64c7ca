// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/options.hpp"

#include "setkey/text.hpp"

#include <getopt.h>

namespace latchkey::setkey {

namespace {

enum Long : int { help_code = 256, version_code, socket_code, strict_code, no_strict_code };

constexpr OptionRow rows[] = {
    {'c', nullptr, nullptr, "read commands from standard input"},
    {'f', nullptr, "FILE", "read commands from FILE, - for standard input"},
    {'D', nullptr, nullptr, "dump the security associations; with -P the policies"},
    {'F', nullptr, nullptr, "flush the security associations; with -P the policies"},
    {'x', nullptr, nullptr, "monitor everything that passes key sockets; -xx with plain time stamps"},
    {'P', nullptr, nullptr, "with -D and -F: policies instead of associations"},
    {'a', nullptr, nullptr, "with -D: dead associations as well"},
    {'p', nullptr, nullptr, "with -D: ports of addresses as well"},
    {'l', nullptr, nullptr, "with -D: one line per association, again every second"},
    {'N', nullptr, nullptr, "with -DP: no per-socket policies"},
    {'r', nullptr, nullptr, "give every 'in' policy a 'fwd' companion, as Linux does (default)"},
    {'k', nullptr, nullptr, "send policies as they are written, without companions"},
    {'n', nullptr, nullptr, "do not resolve host names"},
    {'v', nullptr, nullptr, "show the messages that are sent and received"},
    {'h', nullptr, nullptr, "with -v, -x and FILE: in hexadecimal as well (keys included)"},
    {'H', nullptr, nullptr, "the same as -h"},
    {socket_code, "socket", "PATH", "the control socket of the host (default: $LATCHKEY, or the usual place)"},
    {strict_code, "strict", nullptr, "exit 1 if anything was refused or could not be read (default with -f)"},
    {no_strict_code, "no-strict", nullptr, "exit 0 whatever the host refuses (default with -c)"},
    {'V', "version", nullptr, "print the version"},
    {help_code, "help", nullptr, "print this text"},
};

std::string short_options()
{
    std::string out = ":";   // report a missing argument apart
    for (const auto& row : rows)
        if (row.code < 256) {
            out += static_cast<char>(row.code);
            out += row.argument != nullptr ? ":" : "";
        }
    return out;
}

std::vector<option> long_options()
{
    std::vector<option> out;
    for (const auto& row : rows)
        if (row.name != nullptr)
            out.push_back({row.name, row.argument != nullptr ? required_argument : no_argument, nullptr, row.code});
    out.push_back({});
    return out;
}

// Tasks exclude each other; the same one twice is harmless (-xx says more).
bool set_task(Invocation& to, std::optional<Task>& task, Task wanted)
{
    if (task && *task != wanted)
        return false;
    task = to.task = wanted;
    return true;
}

bool apply(Invocation& to, std::optional<Task>& task, int code, const char* argument)
{
    auto& runner = to.runner;
    switch (code) {
    case 'c': return set_task(to, task, Task::commands);
    case 'f': to.file = argument; return set_task(to, task, Task::file);
    case 'D': return set_task(to, task, Task::dump);
    case 'F': return set_task(to, task, Task::flush);
    case 'x': to.raw_time = task == Task::monitor; return set_task(to, task, Task::monitor);
    case 'P': to.policies = true; return true;
    case 'a': runner.dead = true; return true;
    case 'p': runner.ports = true; return true;
    case 'l': runner.brief = true; return true;
    case 'N': runner.hide_socket_policies = true; return true;
    case 'r': runner.build.forward_copies = true; return true;
    case 'k': runner.build.forward_copies = false; return true;
    case 'n': runner.parse.numeric = true; return true;
    case 'v': runner.verbose = true; return true;
    case 'h':
    case 'H': runner.hex = true; return true;
    case socket_code: to.socket = argument; return true;
    case strict_code: to.strict = true; return true;
    case no_strict_code: to.strict = false; return true;
    case 'V': return set_task(to, task, Task::version);
    case help_code: return set_task(to, task, Task::help);
    default: return true;
    }
}

std::string unknown_option(int argc, char** argv)
{
    const auto* word = optind > 0 && optind <= argc ? argv[optind - 1] : "";
    if (optopt > 0 && optopt < 256)
        return std::string("unknown option -") + static_cast<char>(optopt);
    return std::string("unknown option ") + word;
}

}  // namespace

std::span<const OptionRow> option_rows()
{
    return rows;
}

std::expected<Invocation, std::string> parse_options(int argc, char** argv)
{
    Invocation out;
    std::optional<Task> task;
    const auto letters = short_options();
    const auto names = long_options();
    optind = 0;   // GNU: begin anew, also in the middle of a word
    opterr = 0;
    for (int code; (code = getopt_long(argc, argv, letters.c_str(), names.data(), nullptr)) != -1;) {
        if (code == ':')
            return std::unexpected(std::string(argv[optind - 1]) + " needs an argument");
        if (code == '?')
            return std::unexpected(unknown_option(argc, argv));
        if (!apply(out, task, code, optarg))
            return std::unexpected("only one of -c, -f, -D, -F and -x can be given");
    }
    if (!task && optind + 1 == argc) {
        out.file = argv[optind++];
        task = out.task = Task::show;
    }
    if (!task)
        return std::unexpected("one of -c, -f, -D, -F and -x is needed");
    if (optind < argc)
        return std::unexpected(std::string("unexpected argument '") + argv[optind] + "'");
    if (out.runner.brief && (out.task != Task::dump || out.policies))
        return std::unexpected("-l goes with -D of associations only");
    out.runner.style = out.task == Task::file ? Style::script : Style::line;
    return out;
}

std::string usage()
{
    std::string out = "usage: setkey [-hknrv] -c\n"
                      "       setkey [-hknrv] -f FILE\n"
                      "       setkey [-aNPlpv] -D\n"
                      "       setkey [-Pv] -F\n"
                      "       setkey [-h] -x\n"
                      "       setkey [-h] FILE\n"
                      "\n"
                      "Manipulates the security associations and policies of a Latchkey host.\n"
                      "\n";
    for (const auto& row : rows) {
        std::string left = row.code < 256 ? std::string("-") + static_cast<char>(row.code) : std::string("   ");
        if (row.name != nullptr)
            left += std::string(row.code < 256 ? ", --" : " --") + row.name;
        if (row.argument != nullptr)
            left += std::string(" ") + row.argument;
        put(out, "  %-20s %s\n", left.c_str(), row.help);
    }
    return out;
}

int exit_status(const Invocation& invocation, std::size_t refused, std::size_t unreadable, bool lost)
{
    if (lost)
        return 1;
    if (invocation.strict.value_or(invocation.task != Task::commands))
        return refused + unreadable != 0 ? 1 : 0;
    // Without --strict only a script that could not be read fails, as it always did.
    return invocation.task == Task::file && unreadable != 0 ? 1 : 0;
}

}  // namespace latchkey::setkey
