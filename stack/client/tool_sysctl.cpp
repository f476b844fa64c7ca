// SPDX-License-Identifier: BSD-2-Clause
// latchkey sysctl: a host's tunables, in the habits of sysctl(8).
#include "stack/client/calls.hpp"
#include "stack/client/tool.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>

namespace latchkey::tool {

namespace {

using control::Op;

enum Verb : int { list = 0, get = 1, set = 2, describe = 3 };

struct Style {
    bool all = false, descriptions = false, equals = false, bare = false, hex = false, quiet = false, only_set = false;
};

struct Asked {
    int error = 0;       // 0 or -errno
    std::string text;    // the answer, or the reason
};

constexpr std::string_view blanks = " \t\r";

std::string_view trimmed(std::string_view text)
{
    const auto start = text.find_first_not_of(blanks);
    return start == text.npos ? std::string_view{} : text.substr(start, text.find_last_not_of(blanks) - start + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator)
{
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        const auto part = text.substr(0, text.find(separator));
        parts.push_back(part);
        text.remove_prefix(std::min(text.size(), part.size() + 1));
    }
    return parts;
}

std::string in_hex(std::string_view decimal)
{
    std::int64_t value = 0;
    std::from_chars(decimal.data(), decimal.data() + decimal.size(), value);
    std::array<char, 16> digits{};
    std::snprintf(digits.data(), digits.size(), "0x%x", static_cast<unsigned>(value));
    return digits.data();
}

class Session {
public:
    Session(client::Host& host, const Style& style) : host_(host), style_(style) {}

    void show_all() { style_.descriptions ? show_descriptions("") : show_below(""); }
    void take_word(std::string_view word, const std::string& where);
    void take_file(const std::string& path);
    int status() const { return status_; }

private:
    Asked ask(Verb verb, const std::string& text) const
    {
        Asked asked;
        asked.error = client::text_call(host_, Op::sysctl, verb, text, asked.text);
        return asked;
    }
    void refuse(const std::string& where, std::string_view name, const std::string& why)
    {
        status_ = fail("sysctl: " + where + std::string(name) + ": " + why);
    }

    void take_lines(std::istream& lines, const std::string& path);
    void show(const std::string& name, const std::string& where);
    bool show_below(std::string_view prefix);
    bool show_descriptions(const std::string& name);
    void assign(const std::string& name, const std::string& value, const std::string& where);
    void print(std::string_view name, std::string_view value) const;
    std::string shown(std::string_view value) const { return style_.hex ? in_hex(value) : std::string(value); }
    std::string near(std::string_view name) const;
    std::string range(const std::string& name) const;

    client::Host& host_;
    const Style style_;
    int status_ = exit_ok;
};

// `where` leads complaints: the line of a file, or nothing.
void Session::take_word(std::string_view word, const std::string& where)
{
    const auto equals = word.find('=');
    const std::string name(trimmed(word.substr(0, equals)));
    if (equals == word.npos || style_.descriptions) {
        if (style_.only_set && !style_.descriptions)
            return refuse(where, name, "expected NAME=VALUE");
        return show(name, where);
    }
    auto value = trimmed(word.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
        value = value.substr(1, value.size() - 2);
    assign(name, std::string(value), where);
}

void Session::take_file(const std::string& path)
{
    if (path == "-")
        return take_lines(std::cin, "standard input");
    std::ifstream file(path);
    if (!file)
        return refuse("", path, std::strerror(errno));
    take_lines(file, path);
}

void Session::take_lines(std::istream& lines, const std::string& path)
{
    std::string line;
    for (unsigned number = 1; std::getline(lines, line); ++number) {
        const auto where = path + ":" + std::to_string(number) + ": ";
        const auto text = trimmed(std::string_view(line).substr(0, line.find('#')));
        if (text.empty())
            continue;
        if (text.find('=') == text.npos)
            refuse(where, text, "expected NAME=VALUE");
        else
            take_word(text, where);
    }
    if (lines.bad())
        refuse("", path, "cannot be read");
}

// A name, or the beginning of several.
void Session::show(const std::string& name, const std::string& where)
{
    const auto stem = name.substr(0, name.find_last_not_of('.') + 1);
    if (style_.descriptions) {
        if (!show_descriptions(stem))
            refuse(where, name, "the host has no tunable of this name" + near(name));
        return;
    }
    const auto value = ask(get, name);
    if (value.error == 0)
        return print(name, value.text);
    if (value.error != -ENOENT)
        return refuse(where, name, host_reason(value.text, value.error));
    if (stem.empty() || !show_below(stem + "."))
        refuse(where, name, "the host has no tunable of this name" + near(name));
}

bool Session::show_below(std::string_view prefix)
{
    const auto all = ask(list, "");
    if (all.error != 0) {
        refuse("", "cannot list", host_reason(all.text, all.error));
        return true;
    }
    bool any = false;
    for (const auto line : split(all.text, '\n')) {
        const auto equals = std::min(line.find('='), line.size());
        if (!line.starts_with(prefix))
            continue;
        any = true;
        print(line.substr(0, equals), line.substr(std::min(equals + 1, line.size())));
    }
    return any;
}

// "net.key.debug: not 0: log ... (0 to 2147483647, default 0)"
bool Session::show_descriptions(const std::string& name)
{
    auto rows = ask(describe, name);
    const bool one = rows.error == 0 && !name.empty();
    if (rows.error == -ENOENT)
        rows = ask(describe, "");
    if (rows.error != 0) {
        refuse("", name, host_reason(rows.text, rows.error));
        return true;
    }
    bool any = false;
    for (const auto line : split(rows.text, '\n')) {
        const auto field = split(line, '\t');   // NAME TYPE DEFAULT MIN MAX HELP
        if (field.size() != 6 || (!one && !name.empty() && !field[0].starts_with(name + ".")))
            continue;
        any = true;
        const auto limits = field[1] == "computed" ? std::string("read only")
            : field[3] == field[4]                 ? "always " + shown(field[2])
                                   : shown(field[3]) + " to " + shown(field[4]) + ", default " + shown(field[2]);
        print(field[0], std::string(field[5]) + " (" + limits + ")");
    }
    return any;
}

void Session::assign(const std::string& name, const std::string& value, const std::string& where)
{
    const auto before = ask(get, name);
    if (before.error == -ENOENT)
        return refuse(where, name, "the host has no tunable of this name" + near(name));
    const auto done = before.error != 0 ? before : ask(set, name + "=" + value);
    if (done.error != 0) {
        const auto why = host_reason(done.text, done.error);
        return refuse(where, name + "=" + value, why + (done.error == -EINVAL ? range(name) : ""));
    }
    if (const auto after = ask(get, name); !style_.quiet && after.error == 0)
        print(name, shown(before.text) + " -> " + shown(after.text));
}

void Session::print(std::string_view name, std::string_view value) const
{
    std::string line;
    if (!style_.bare)
        line = std::string(name) + (style_.equals ? "=" : ": ");
    const bool number = !value.empty() && value.find_first_not_of("-0123456789") == value.npos;
    line += (number ? shown(value) : std::string(value)) + "\n";
    std::fwrite(line.data(), 1, line.size(), stdout);
}

// A name that ends alike stands for a forgotten or wrong beginning; else one with few letters different.
std::string Session::near(std::string_view name) const
{
    const auto all = ask(list, "");
    std::vector<std::string_view> names;
    for (const auto line : split(all.text, '\n'))
        names.push_back(line.substr(0, line.find('=')));
    const auto close = suggestion(name, names);
    const auto leaf = "." + std::string(name.substr(name.rfind('.') + 1));
    if (!close.empty() || leaf.size() < 3)
        return close;
    const auto same = std::find_if(names.begin(), names.end(), [&](auto known) { return known.ends_with(leaf); });
    return same == names.end() ? "" : "; did you mean `" + std::string(*same) + "`?";
}

std::string Session::range(const std::string& name) const
{
    const auto row = ask(describe, name);
    const auto field = split(trimmed(row.text), '\t');
    return row.error != 0 || field.size() != 6 ? ""
                                               : " (" + std::string(field[3]) + " to " + std::string(field[4]) + ")";
}

}  // namespace

int run_sysctl(const Command& self, Words words)
{
    std::string socket;
    std::vector<std::string> files;
    Style style;
    const auto flag = [](bool& to) { return [&to](std::string_view) { return to = true; }; };
    const std::array options{
        Option{"-a", "", "every tunable", flag(style.all)},
        Option{"-d", "", "what it is, its range and default, instead of its value", flag(style.descriptions)},
        Option{"-e", "", "print name=value, which -f reads again", flag(style.equals)},
        Option{"-f", "FILE", "set what the lines NAME=VALUE of a file say (-: standard input; # comments)",
               [&](std::string_view path) {
                   files.emplace_back(path);
                   return !path.empty();
               }},
        Option{"-n", "", "print values without names", flag(style.bare)},
        Option{"-q", "", "print nothing about what was set", flag(style.quiet)},
        Option{"-w", "", "set only: every word must be NAME=VALUE", flag(style.only_set)},
        Option{"-x", "", "print in hexadecimal", flag(style.hex)},
        socket_option(socket)};
    if (const auto done = take_options(self, options, words))
        return *done;
    if (style.all && !words.empty())
        return fail_usage(self, "-a and a name, `" + std::string(words.front()) + "`");
    if (!style.all && files.empty() && words.empty())
        return fail_usage(self, "which? (-a: all)");
    client::Host host;
    if (!open_host(host, socket))
        return exit_failed;
    Session session(host, style);
    if (style.all)
        session.show_all();
    for (const auto& file : files)
        session.take_file(file);
    for (const char* word : words)
        session.take_word(word, "");
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
        return fail("sysctl: cannot write the output");
    return session.status();
}

}  // namespace latchkey::tool
