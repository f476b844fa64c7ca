// SPDX-License-Identifier: BSD-2-Clause
#include "stack/client/tool.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <numeric>

namespace latchkey::tool {

namespace {

constexpr std::array table{
    Command{"run", "run [--socket PATH] [--] PROGRAM [ARGUMENT...]", "run a program with the PF_KEY sockets of a host",
            "Exit status: the program's; 125 if this command fails, 126 if the program cannot be run so, 127 if it is\n"
            "not found.\n",
            run_program},
    Command{"ping", "ping [-c N] [-s SIZE] [-i SEC] [-W SEC] [-q] [--socket PATH] ADDRESS",
            "send ICMP echo requests from a host",
            "Exit status: 0 if there was a reply, 1 if there was none, 2 on other errors.\n", run_ping},
    Command{"stat", "stat [-r] [--socket PATH]", "print a host's counters", "", run_stat},
    Command{"address", "address [--socket PATH] [list | add PREFIX [dev IF] | delete PREFIX [dev IF]]",
            "list or change a host's addresses", "", run_configure},
    Command{"route",
            "route [--socket PATH] [list | add PREFIX|default [via ADDRESS] [dev IF] | delete PREFIX|default]",
            "list or change a host's routes", "", run_configure},
    Command{"link", "link [--socket PATH] [list | set IF up|down | set IF mtu N]", "list or change a host's interfaces",
            "", run_configure},
    Command{"sysctl", "sysctl [-adenqwx] [-f FILE] [--socket PATH] NAME[=VALUE] ...",
            "print or set a host's tunables",
            "A NAME without its end stands for all below it: net.key. Numbers are decimal, or hexadecimal with 0x.\n"
            "Exit status: 0, or 1 if anything failed, when the rest was done all the same.\n",
            run_sysctl},
    Command{"algs", "algs [--json] [--socket PATH] [NAME|KIND ...]",
            "list the algorithms and which of them a host offers",
            "KIND is cipher, aead, auth or compression. Works without a host.\n", run_algs},
    Command{"monitor", "monitor [--socket PATH]", "print changes of addresses, routes and links as they happen",
            "Ends at an interrupt, or with status 1 when the host ends.\n", run_monitor},
};

// Shorter names that people try.
struct Alias {
    std::string_view name, means;
};
constexpr std::array aliases{Alias{"addr", "address"}, Alias{"stats", "stat"}};

void print(std::FILE* to, std::string_view text)
{
    std::fwrite(text.data(), 1, text.size(), to);
}

void print_overview(std::FILE* to)
{
    std::string text = "usage: latchkey COMMAND [ARGUMENT...]\n\nWorks with a Latchkey host (latchkeyd). Commands:\n";
    for (const auto& command : table)
        text += "  " + std::string(command.name) + std::string(10 - command.name.size(), ' ')
            + std::string(command.summary) + "\n";
    text += "\nThe host is that of --socket PATH, else of $LATCHKEY, else the default of the user.\n"
            "`latchkey COMMAND --help` tells more; so does latchkey(1).\n";
    print(to, text);
}

void print_help(const Command& command, std::span<const Option> options)
{
    std::string text = "usage: latchkey " + std::string(command.usage) + "\n\n" + std::string(command.summary) + "\n\n";
    for (const auto& option : options) {
        std::string left = "  " + std::string(option.name) + (option.value.empty() ? "" : " ")
            + std::string(option.value);
        left.resize(std::max<std::size_t>(left.size() + 2, 20), ' ');
        text += left + std::string(option.help) + "\n";
    }
    text += "  --help            this text\n";
    if (!command.details.empty())
        text += "\n" + std::string(command.details);
    print(stdout, text);
}

// Levenshtein's distance, with one row.
std::size_t distance(std::string_view a, std::string_view b)
{
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const auto replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row[b.size()];
}

// ---- options ----------------------------------------------------------------------------------------------------

std::optional<int> no_option(const Command& command, std::span<const Option> options, std::string_view name)
{
    std::vector<std::string_view> names;
    for (const auto& known : options)
        names.push_back(known.name);
    return fail_usage(command, "there is no option " + std::string(name) + suggestion(name, names));
}

// `value`: what stands in the same word; else the next word is taken.
std::optional<int> apply(const Command& command, const Option& option, std::optional<std::string_view> value,
                         Words& words)
{
    const std::string shown(option.name);
    if (option.value.empty() && value)
        return fail_usage(command, shown + " takes no value");
    if (!option.value.empty() && !value) {
        if (words.empty())
            return fail_usage(command, shown + " needs a value: " + std::string(option.value));
        value = words.front();
        words = words.subspan(1);
    }
    if (option.set(value.value_or("")))
        return std::nullopt;
    return fail_usage(command,
                      shown + " `" + std::string(value.value_or("")) + "`: expected " + std::string(option.help));
}

// "--socket=PATH" as well as "--socket PATH".
std::optional<int> take_long(const Command& command, std::span<const Option> options, std::string_view word,
                             Words& words)
{
    const auto equals = word.find('=');
    const auto name = word.substr(0, equals);
    const auto option = std::ranges::find(options, name, &Option::name);
    if (option == options.end())
        return no_option(command, options, name);
    return apply(command, *option, equals == word.npos ? std::nullopt : std::optional(word.substr(equals + 1)), words);
}

// "-c5" as well as "-c 5"; "-an" is "-a -n".
std::optional<int> take_letters(const Command& command, std::span<const Option> options, std::string_view letters,
                                Words& words)
{
    while (!letters.empty()) {
        const std::string name{'-', letters.front()};
        letters.remove_prefix(1);
        const auto option = std::ranges::find(options, name, &Option::name);
        if (option == options.end())
            return no_option(command, options, name);
        const bool has_value = !option->value.empty();
        const auto value = has_value && !letters.empty() ? std::optional(letters) : std::nullopt;
        if (const auto failed = apply(command, *option, value, words); failed || has_value)
            return failed;
    }
    return std::nullopt;
}

template <class Number> bool parse(std::string_view text, Number low, Number high, Number& number)
{
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc{} && end == text.data() + text.size() && number >= low && number <= high;
}

const Command* find_command(std::string_view name)
{
    for (const auto& alias : aliases)
        if (alias.name == name)
            name = alias.means;
    const auto found = std::find_if(table.begin(), table.end(), [&](const Command& c) { return c.name == name; });
    return found == table.end() ? nullptr : &*found;
}

int run(Words words)
{
    const std::string_view first = words.empty() ? "" : words.front();
    if (first == "--help" || first == "-h" || first == "help") {
        print_overview(stdout);
        return exit_ok;
    }
    if (first == "--version") {
        print(stdout, "latchkey " LATCHKEY_VERSION "\n");
        return exit_ok;
    }
    if (words.empty()) {
        print_overview(stderr);
        return exit_usage;
    }
    if (const auto* command = find_command(first))
        return command->run(*command, words.subspan(1));
    std::vector<std::string_view> names;
    for (const auto& command : table)
        names.push_back(command.name);
    const auto near = suggestion(first, names);
    fail("there is no command `" + std::string(first) + "`" + (near.empty() ? "; see `latchkey --help`" : near));
    return exit_usage;
}

}  // namespace

std::span<const Command> commands()
{
    return table;
}

std::optional<int> take_options(const Command& command, std::span<const Option> options, Words& words)
{
    while (!words.empty()) {
        const std::string_view word = words.front();
        if (word.size() < 2 || word[0] != '-')
            return std::nullopt;
        words = words.subspan(1);
        if (word == "--")
            return std::nullopt;
        if (word == "--help" || word == "-h") {
            print_help(command, options);
            return exit_ok;
        }
        const auto failed = word[1] == '-' ? take_long(command, options, word, words)
                                           : take_letters(command, options, word.substr(1), words);
        if (failed)
            return failed;
    }
    return std::nullopt;
}

int fail(std::string_view text)
{
    print(stderr, "latchkey: " + std::string(text) + "\n");
    return exit_failed;
}

int fail_usage(const Command& command, std::string_view text)
{
    fail(std::string(command.name) + ": " + std::string(text));
    print(stderr, "usage: latchkey " + std::string(command.usage) + "\n");
    return exit_usage;
}

std::string suggestion(std::string_view word, std::span<const std::string_view> candidates)
{
    constexpr std::size_t near = 2;
    std::string_view best;
    std::size_t best_distance = near + 1;
    for (const auto candidate : candidates)
        if (const auto d = distance(word, candidate); d < best_distance && d < candidate.size()) {
            best = candidate;
            best_distance = d;
        }
    return best.empty() ? "" : "; did you mean `" + std::string(best) + "`?";
}

Option socket_option(std::string& path)
{
    return {"--socket", "PATH", "the host's control socket", [&path](std::string_view value) {
                path = value;
                return !path.empty();
            }};
}

bool open_host(client::Host& host, const std::string& path)
{
    if (const int error = host.set_path(path.empty() ? nullptr : path.c_str()); error < 0) {
        fail(error == -ENOENT ? "which host? Neither --socket, $LATCHKEY nor $XDG_RUNTIME_DIR is given"
                              : "the path of the host's socket is too long (at most 107 bytes)");
        return false;
    }
    const int error = host.hello({});
    if (error == -EPROTO)
        fail("the host at " + std::string(host.path()) + " is of another version than this tool");
    else if (error < 0)
        fail("no host answers at " + std::string(host.path()) + ": " + std::strerror(-error)
             + " (start latchkeyd, or name another with --socket or $LATCHKEY)");
    return error >= 0;
}

bool parse_number(std::string_view text, double low, double high, double& number)
{
    return parse(text, low, high, number);
}

bool parse_number(std::string_view text, long low, long high, long& number)
{
    return parse(text, low, high, number);
}

}  // namespace latchkey::tool

int main(int argc, char** argv)
{
    return latchkey::tool::run(latchkey::tool::Words(argv, static_cast<std::size_t>(argc)).subspan(argc > 0 ? 1 : 0));
}
