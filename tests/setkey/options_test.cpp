// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/options.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

using namespace latchkey::setkey;

namespace {

std::expected<Invocation, std::string> parse(std::vector<std::string> words)
{
    words.insert(words.begin(), "setkey");
    std::vector<char*> argv;
    for (auto& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    return parse_options(static_cast<int>(words.size()), argv.data());
}

std::string error(std::vector<std::string> words)
{
    const auto parsed = parse(std::move(words));
    return parsed ? "accepted" : parsed.error();
}

int status(std::vector<std::string> words, std::size_t refused, std::size_t unreadable, bool lost = false)
{
    const auto parsed = parse(std::move(words));
    REQUIRE(parsed.has_value());
    return exit_status(*parsed, refused, unreadable, lost);
}

}  // namespace

TEST_CASE("traditional command lines")
{
    CHECK(parse({"-c"})->task == Task::commands);
    CHECK(parse({"-c"})->runner.style == Style::line);
    CHECK(parse({"-f", "x.cf"})->file == "x.cf");
    CHECK(parse({"-vf", "x.cf"})->runner.verbose);
    CHECK(parse({"-f", "-"})->runner.style == Style::script);
    CHECK(parse({"-D"})->task == Task::dump);
    CHECK(parse({"-DP"})->policies);
    CHECK(parse({"-PD"})->policies);
    CHECK(parse({"-Pp", "-D"})->runner.ports);
    CHECK(parse({"-FP"})->task == Task::flush);
    CHECK(parse({"-aD"})->runner.dead);
    CHECK(parse({"-DNP"})->runner.hide_socket_policies);
    CHECK(parse({"-x"})->raw_time == false);
    CHECK(parse({"-xx"})->raw_time);
    CHECK(parse({"-Hx"})->runner.hex);
    CHECK(parse({"-hx"})->runner.hex);
    CHECK(parse({"-DaP"})->runner.dead);
    CHECK(parse({"-x", "-x"})->raw_time);
    CHECK(parse({"saved.bin"})->task == Task::show);
    CHECK(parse({"-h", "a", "b"})->files == std::vector<std::string>{"a", "b"});
    CHECK(parse({"-DPg"})->runner.hide_socket_policies);
    CHECK(parse({"-DPt"})->interfaces);
    CHECK(parse({"-V"})->task == Task::version);
    CHECK(parse({"--help"})->task == Task::help);
    CHECK(parse({"-?"})->task == Task::help);
    CHECK(parse({"--socket", "/tmp/a.sock", "-D"})->socket == "/tmp/a.sock");
}

TEST_CASE("`fwd` companions: on unless -k, the last word counts")
{
    CHECK(parse({"-c"})->runner.build.forward_copies);
    CHECK_FALSE(parse({"-kc"})->runner.build.forward_copies);
    CHECK(parse({"-k", "-r", "-c"})->runner.build.forward_copies);
}

TEST_CASE("-n is no action, as the manual pages of all setkeys have it: --check")
{
    for (const auto* word : {"-n", "--check"}) {
        CHECK(parse({word, "-f", "x.cf"})->task == Task::check);
        CHECK(parse({word, "-f", "x.cf"})->file == "x.cf");
        CHECK(parse({word, "-c"})->task == Task::check);
        CHECK(parse({word, "-c"})->file == "-");
        CHECK(parse({word, "x.cf"})->task == Task::check);
        CHECK(parse({word, "x.cf"})->file == "x.cf");
        CHECK_FALSE(parse({word, "-c"})->runner.parse.numeric);   // names are looked up as without it
    }
    CHECK(error({"-n", "-D"}) == "--check (-n) goes with -f and -c only");
    CHECK(error({"-n", "a", "b"}) == "unexpected argument 'b'");
}

TEST_CASE("--atomic, --json, --oneline, --keys")
{
    CHECK(parse({"--atomic", "-f", "x.cf"})->atomic);
    CHECK(parse({"--atomic", "x.cf"})->task == Task::file);
    CHECK(error({"--atomic", "-c"}) == "--atomic goes with -f only");
    CHECK(error({"--atomic", "-D"}) == "--atomic goes with -f only");
    for (const auto* task : {"-D", "-DP", "-x", "saved.bin"}) {
        CAPTURE(task);
        CHECK(parse({"--json", task})->runner.json);
        CHECK_FALSE(parse({"--json", task})->runner.with.keys);
        CHECK(parse({"--json", "--keys", task})->runner.with.keys);
        CHECK(parse({"--json", task})->runner.style == Style::script);   // nothing but JSON on stdout
        CHECK(parse({"--oneline", task})->runner.one_line);
    }
    CHECK(error({"--json", "-c"}) == "--json goes with -D, -x and a file of messages only");
    CHECK(error({"--oneline", "-F"}) == "--oneline goes with -D, -x and a file of messages only");
    CHECK(error({"--json", "--oneline", "-D"}) == "--json does not go with --oneline and -l");
    CHECK(error({"--json", "-lD"}) == "--json does not go with --oneline and -l");
    CHECK(error({"--json", "-vD"}) == "--json does not go with -v: there would be other text between the entries");
    CHECK(error({"--oneline", "-lD"}) == "--oneline does not go with -l");
    CHECK(error({"--keys", "-D"}) == "--keys goes with --json only: the other dumps show keys anyway");
}

TEST_CASE("command lines that make no sense")
{
    CHECK(error({}) == "one of -c, -f, -D, -F and -x is needed");
    CHECK(error({"-c", "-D"}) == "only one of -c, -f, -D, -F and -x can be given");
    CHECK(error({"-f"}) == "-f needs an argument");
    CHECK(error({"--socket"}) == "--socket needs an argument");
    CHECK(error({"-q"}) == "unknown option -q");
    CHECK(error({"--quiet"}) == "unknown option --quiet");
    CHECK(error({"-c", "file"}) == "unexpected argument 'file'");
    CHECK(error({"-t", "-D"}) == "-t goes with -DP only");
    CHECK(error({"-t", "-FP"}) == "-t goes with -DP only");
    CHECK(error({"-l", "-c"}) == "-l goes with -D of associations only");
    CHECK(error({"-l", "-DP"}) == "-l goes with -D of associations only");
}

TEST_CASE("exit status")
{
    CHECK(status({"-c"}, 0, 0) == 0);
    CHECK(status({"-c"}, 3, 2) == 0);
    CHECK(status({"--strict", "-c"}, 1, 0) == 1);
    CHECK(status({"--strict", "-c"}, 0, 1) == 1);
    CHECK(status({"--strict", "-c"}, 0, 0) == 0);
    CHECK(status({"-f", "x"}, 0, 0) == 0);
    CHECK(status({"-f", "x"}, 1, 0) == 1);
    CHECK(status({"-f", "x"}, 0, 1) == 1);
    CHECK(status({"--no-strict", "-f", "x"}, 5, 0) == 0);
    CHECK(status({"--no-strict", "-f", "x"}, 0, 1) == 1);
    CHECK(status({"-D"}, 0, 0) == 0);
    CHECK(status({"-F"}, 1, 0) == 1);
    CHECK(status({"--no-strict", "-c"}, 0, 0, true) == 1);
    CHECK(status({"--no-strict", "--atomic", "-f", "x"}, 1, 0) == 1);   // nothing was applied
    CHECK(status({"--atomic", "-f", "x"}, 0, 1) == 1);
    CHECK(status({"--atomic", "-f", "x"}, 0, 0) == 0);
}

TEST_CASE("--help and the man page know every option")
{
    std::ifstream in(LATCHKEY_TEST_DATA "/../../setkey/setkey.8");
    const std::string man{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    REQUIRE_FALSE(man.empty());
    const auto help = usage();
    for (const auto& row : option_rows()) {
        if (row.code < 256) {
            const std::string letter(1, static_cast<char>(row.code));
            CAPTURE(letter);
            CHECK(help.find("\n  -" + letter) != help.npos);
            CHECK(man.find("\n.It Fl " + letter) != man.npos);
        }
        if (row.name != nullptr) {
            CAPTURE(row.name);
            CHECK(help.find(std::string("--") + row.name) != help.npos);
            // mdoc writes --name as "Fl Fl name".
            CHECK(man.find(std::string("Fl Fl ") + row.name) != man.npos);
        }
        if (row.argument != nullptr)
            CHECK(help.find(row.argument) != help.npos);
    }
}
