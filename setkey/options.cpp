// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/options.hpp"

#include "setkey/text.hpp"

#include <getopt.h>

namespace latchkey::setkey {

namespace {

enum Long : int {
    help_code = 256,
    socket_code,
    strict_code,
    no_strict_code,
    atomic_code,
    check_code,
    json_code,
    keys_code,
    oneline_code,
};

constexpr OptionRow rows[] = {
    {'c', nullptr, nullptr, "read commands from standard input"},
    {'f', nullptr, "FILE", "read commands from FILE, - for standard input"},
    {atomic_code, "atomic", nullptr, "with -f: all commands are applied, or none"},
    {check_code, "check", nullptr, "with -f or -c: tell every error, apply nothing, ask no host"},
    {'n', nullptr, nullptr, "the same as --check"},
    {'D', nullptr, nullptr, "dump the security associations; with -P the policies"},
    {'F', nullptr, nullptr, "flush the security associations; with -P the policies"},
    {'x', nullptr, nullptr, "monitor everything that passes key sockets; -xx with plain time stamps"},
    {'P', nullptr, nullptr, "with -D and -F: policies instead of associations"},
    {'a', nullptr, nullptr, "with -D: dead associations as well"},
    {'p', nullptr, nullptr, "with -D: ports of addresses as well"},
    {'l', nullptr, nullptr, "with -D: one short line per association, again every second"},
    {'N', nullptr, nullptr, "with -DP: no per-socket policies"},
    {'g', nullptr, nullptr, "with -DP: policies of global scope, the same as -N"},
    {'t', nullptr, nullptr, "with -DP: policies of tunnel interfaces, of which this host has none"},
    {oneline_code, "oneline", nullptr, "with -D, -x and FILE: one line per entry, keys in one piece"},
    {json_code, "json", nullptr, "with -D, -x and FILE: JSON"},
    {keys_code, "keys", nullptr, "with --json: keys as well"},
    {'r', nullptr, nullptr, "give every 'in' policy a 'fwd' companion, as Linux does (default)"},
    {'k', nullptr, nullptr, "send policies as they are written, without companions"},
    {'v', nullptr, nullptr, "show the messages that are sent and received"},
    {'h', nullptr, nullptr, "with -v, -x and FILE: in hexadecimal as well (keys included)"},
    {'H', nullptr, nullptr, "the same as -h"},
    {socket_code, "socket", "PATH", "the control socket of the host (default: $LATCHKEY, or the usual place)"},
    {strict_code, "strict", nullptr, "exit 1 if anything was refused or could not be read (default with -f)"},
    {no_strict_code, "no-strict", nullptr, "exit 0 whatever the host refuses (default with -c)"},
    {'V', "version", nullptr, "print the version"},
    {help_code, "help", nullptr, "print this text; so does -?"},
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
    case 'N':
    case 'g': runner.hide_socket_policies = true; return true;
    case 't': to.interfaces = true; return true;
    case 'r': runner.build.forward_copies = true; return true;
    case 'k': runner.build.forward_copies = false; return true;
    case 'n':
    case check_code: to.check = true; return true;
    case atomic_code: to.atomic = true; return true;
    case json_code: runner.json = true; return true;
    case keys_code: runner.with.keys = true; return true;
    case oneline_code: runner.one_line = true; return true;
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

// Files without -f: a script with --check and --atomic, which say so; otherwise saved messages. How many were taken.
std::size_t take_files(Invocation& to, std::optional<Task>& task, std::span<char*> arguments)
{
    if (task || arguments.empty())
        return 0;
    const bool script = to.check || to.atomic;
    task = to.task = script ? Task::file : Task::show;
    if (script)
        to.file = arguments.front();
    else
        to.files.assign(arguments.begin(), arguments.end());
    return script ? 1 : arguments.size();
}

// Options that are about something else than the task. Traditional letters that change nothing are let pass, as ever.
const char* contradiction(const Invocation& invocation)
{
    const auto& runner = invocation.runner;
    const auto task = invocation.task;
    const bool dump = task == Task::dump;
    const bool policy_dump = dump && invocation.policies;
    const bool shows = dump || task == Task::monitor || task == Task::show;
    if (runner.brief && (!dump || invocation.policies))
        return "-l goes with -D of associations only";
    if (invocation.check && task != Task::file && task != Task::commands)
        return "--check (-n) goes with -f and -c only";
    if (invocation.atomic && task != Task::file)
        return "--atomic goes with -f only";
    if (runner.json && !shows)
        return "--json goes with -D, -x and a file of messages only";
    if (runner.one_line && !shows)
        return "--oneline goes with -D, -x and a file of messages only";
    if (runner.json && (runner.one_line || runner.brief))
        return "--json does not go with --oneline and -l";
    if (runner.json && runner.verbose && dump)
        return "--json does not go with -v: there would be other text between the entries";
    if (runner.one_line && runner.brief)
        return "--oneline does not go with -l";
    if (runner.with.keys && !runner.json)
        return "--keys goes with --json only: the other dumps show keys anyway";
    return invocation.interfaces && !policy_dump ? "-t goes with -DP only" : nullptr;
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
        if (code == '?' && optopt == '?')
            code = help_code;
        if (code == '?')
            return std::unexpected(unknown_option(argc, argv));
        if (!apply(out, task, code, optarg))
            return std::unexpected("only one of -c, -f, -D, -F and -x can be given");
    }
    const std::span arguments(argv + optind, static_cast<std::size_t>(argc - optind));
    const auto rest = arguments.subspan(take_files(out, task, arguments));
    if (task == Task::help || task == Task::version)
        return out;
    if (!task)
        return std::unexpected("one of -c, -f, -D, -F and -x is needed");
    if (!rest.empty())
        return std::unexpected(std::string("unexpected argument '") + rest.front() + "'");
    if (const char* wrong = contradiction(out))
        return std::unexpected(wrong);
    // Messages of -D, -F and -c go to standard output, where scripts look for them, but not into JSON.
    out.runner.style = out.task == Task::file || out.runner.json ? Style::script : Style::line;
    if (out.check && out.task == Task::commands)
        out.file = "-";
    if (out.check)
        out.task = Task::check;
    return out;
}

std::string usage()
{
    std::string out = "usage: setkey [-hknrv] -c\n"
                      "       setkey [-hknrv] [--atomic | --check] -f FILE\n"
                      "       setkey [-agNPlptv] [--json [--keys] | --oneline] -D\n"
                      "       setkey [-Pv] -F\n"
                      "       setkey [-h] [--json [--keys] | --oneline] -x\n"
                      "       setkey [-h] [--json [--keys] | --oneline] FILE ...\n"
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
    if (lost || (invocation.atomic && refused + unreadable != 0))
        return 1;
    if (invocation.strict.value_or(invocation.task != Task::commands))
        return refused + unreadable != 0 ? 1 : 0;
    // Without --strict only a script that could not be read fails, as it always did.
    return invocation.task == Task::file && unreadable != 0 ? 1 : 0;
}

}  // namespace latchkey::setkey
