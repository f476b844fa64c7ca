// SPDX-License-Identifier: BSD-2-Clause
#include "script.hpp"

#include "setkey/check.hpp"

using namespace latchkey;
using namespace latchkey::setkey;
using namespace latchkey::setkey::test;

namespace {

using Lines = std::vector<std::string>;

Lines told(const Source& source, const std::vector<Diagnostic>& diagnostics)
{
    Lines out;
    for (const auto& diagnostic : diagnostics)
        out.push_back(source.where(diagnostic.offset).substr(1) + ": " + diagnostic.text);
    return out;
}

struct Verdict {
    Lines errors, warnings;
    std::size_t commands;
};

Verdict check(std::string_view text, const Offers& offers = [](const Algorithm&) { return true; })
{
    const Source source("", text);
    const auto report = check_script(source, options(), offers);
    return {told(source, report.errors), told(source, report.warnings), report.commands};
}

Lines errors(std::string_view text)
{
    return check(text).errors;
}

Lines warnings(std::string_view text)
{
    const auto verdict = check(text);
    CHECK(verdict.errors == Lines{});
    return verdict.warnings;
}

const std::string good = "add 10.0.0.1 10.0.0.2 esp 256 -E aes-cbc \"1234567890123456\" -A hmac-sha1 "
                         "\"12345678901234567890\";\n";

}  // namespace

TEST_CASE("a script without faults")
{
    const auto verdict = check(good + "spdadd 10.0.0.0/24 10.0.1.0/24 any -P out ipsec esp/transport//require;\n");
    CHECK(verdict.errors == Lines{});
    CHECK(verdict.warnings == Lines{});
    CHECK(verdict.commands == 2);
}

TEST_CASE("every error of a file is told, in order, and the commands between them count")
{
    const auto verdict = check("flsh;\n" + good +
                               "add 10.0.0.1 10.0.0.2 esp 257 -E aes-cbc \"short\";\n"
                               "spdadd 10.0.0.1 10.0.0.2 any -P out ipsek;\n"
                               "spdadd tagged \"x\" -P out none;\n"
                               "add 10.0.0.1 10.0.0.2 esp 16 -E aes-gcm-16 \"12345678901234567890\";\n"
                               "dump exp;\n");
    CHECK(verdict.errors ==
          Lines{"1:1: expected a command, got 'flsh' (did you mean 'flush'?)",
                "3:42: Invalid key length: aes-cbc wants 128, 192 or 256 bits, got 40",
                "4:37: expected an action (discard, none, ipsec, entrust or bypass), got 'ipsek' "
                "(did you mean 'ipsec'?)",
                "5:8: 'tagged' is not supported by this stack: it has no packet tags",
                "6:27: SPI 16 is reserved: 0 to 255 are",
                "7:6: expected a security protocol or ';', got 'exp' (did you mean 'esp'?)"});
    CHECK(verdict.commands == 2);
}

TEST_CASE("later errors are not consequences of the first: a missing ';' or quote costs one command")
{
    CHECK(errors("flush\n" + good + "spdflush 1;") ==
          Lines{"2:1: expected a security protocol or ';', got 'add'", "3:10: expected ';', got '1'"});
    CHECK(errors("add 10.0.0.1 10.0.0.2 esp 300 -E aes-cbc \"1234567890123456;\n" + good + good) ==
          Lines{"1:42: Invalid key length: aes-cbc wants 128, 192 or 256 bits, got 472 "
                "(is its closing quote missing?)"});
    CHECK(errors(good + "add 10.0.0.1 10.0.0.2 esp 300 -E aes-cbc \"1234567890123456;\n  flush;\n") ==
          Lines{"2:42: expected a key, \"TEXT\" or 0xHEX, got a quoted string without its closing quote"});
    CHECK(errors("spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require\n"
                 "spdadd 10.0.0.2 10.0.0.1 any -P in ipsec esp/transport//require;\n"
                 "spdadd 10.0.0.2 10.0.0.1 any -P sideways none;\n") ==
          Lines{"2:1: expected ';', got 'spdadd'",
                "3:33: expected a direction (in, out or fwd), got 'sideways'"});
    CHECK(errors("add \"unclosed\nno command here") == Lines{"1:5: expected an address or a host name, got a quoted "
                                                           "string without its closing quote"});
}

TEST_CASE("what stands behind exit is not read")
{
    const auto verdict = check("flush; exit; nonsense");
    CHECK(verdict.errors == Lines{});
    CHECK(verdict.commands == 1);
}

TEST_CASE("SPIs that are reserved")
{
    const std::string key = " -A hmac-sha1 \"12345678901234567890\";";
    CHECK(errors("add ::1 ::2 ah 0" + key) == Lines{"1:16: SPI 0 is reserved: 0 to 255 are"});
    CHECK(errors("add ::1 ::2 ah 255" + key) == Lines{"1:16: SPI 255 is reserved: 0 to 255 are"});
    CHECK(errors("add ::1 ::2 ah 256" + key) == Lines{});
    CHECK(errors("getspi ::1 ::2 esp 0;") == Lines{});
    CHECK(errors("getspi ::1 ::2 esp 1;") == Lines{"1:20: SPI 1 is reserved: 0 to 255 are"});
    CHECK(errors("add ::1 ::2 ipcomp 0 -C deflate;") == Lines{"1:20: SPI 0 is reserved"});
    CHECK(errors("add ::1 ::2 ipcomp 2 -C deflate;") == Lines{});
    CHECK(errors("delete ::1 ::2 esp 5;") == Lines{});
}

TEST_CASE("algorithms that the stack lacks, and weak ones")
{
    const auto no_des = [](const Algorithm& row) { return row.name != "des-cbc"; };
    const std::string des = "add ::1 ::2 esp 256 -E des-cbc \"12345678\" -A hmac-sha1 \"12345678901234567890\";";
    CHECK(check(des, no_des).errors == Lines{"1:21: des-cbc is not supported by this stack"});
    CHECK(warnings(des) == Lines{"1:21: des-cbc is weak by today's judgement"});
    CHECK(warnings("add ::1 ::2 ah 256 -A hmac-md5 \"1234567890123456\";") ==
          Lines{"1:20: hmac-md5 is weak by today's judgement"});
    // Without the word of a host the table decides: every row that no host of this version can run.
    for (const auto& row : algorithms) {
        if (row.kind != AlgorithmKind::cipher || row.key_min != row.key_max || row.key_min == 0)
            continue;
        CAPTURE(row.name);
        const auto text = "add ::1 ::2 esp 256 -E " + std::string(row.name) + " \"" +
                          std::string(row.key_min / 8u, 'k') + "\";";
        CHECK(check(text, {}).errors.empty() == row.offered());
    }
}

TEST_CASE("encryption that nothing authenticates")
{
    CHECK(warnings("add ::1 ::2 esp 256 -E aes-cbc \"1234567890123456\";") ==
          Lines{"1:21: aes-cbc without -A: anybody can change what it encrypts"});
    CHECK(warnings("add ::1 ::2 esp 256 -E aes-cbc \"1234567890123456\" -A null;") ==
          Lines{"1:21: aes-cbc without -A: anybody can change what it encrypts"});
    CHECK(warnings("add ::1 ::2 esp 256 -E null;") == Lines{"1:21: this SA neither encrypts nor authenticates"});
    CHECK(warnings("add ::1 ::2 esp 256 -E null -A hmac-sha1 \"12345678901234567890\";") == Lines{});
    CHECK(warnings("add ::1 ::2 esp 256 -E aes-gcm-16 \"12345678901234567890\";") == Lines{});
    CHECK(warnings("update ::1 ::2 esp 256 -lh 5;") == Lines{});
}

TEST_CASE("one key for two SAs with a counter mode")
{
    const auto gcm = [](const std::string& spi, const std::string& key) {
        return "add ::1 ::2 esp " + spi + " -E aes-gcm-16 \"" + key + "\";\n";
    };
    CHECK(warnings(gcm("256", "12345678901234567890") + gcm("257", "12345678901234567890")) ==
          Lines{"2:21: aes-gcm-16 has the same key as in line 1: two SAs with one key give both away"});
    CHECK(warnings(gcm("256", "12345678901234567890") + gcm("257", "12345678901234567891")) == Lines{});
}

TEST_CASE("lifetimes and request ids")
{
    const std::string add = "add ::1 ::2 ah 256 ";   // 19 columns
    const std::string key = " -A hmac-sha1 \"12345678901234567890\";";
    const std::string late = "the soft limit is not below the hard one, so that nobody renews the SA in time";
    CHECK(warnings(add + "-lh 100 -ls 80" + key) == Lines{});
    CHECK(warnings(add + "-lh 100" + key) == Lines{});
    CHECK(warnings(add + "-lh 100 -ls 100" + key) == Lines{"1:28: " + late});
    CHECK(warnings(add + "-bs 100 -bh 99" + key) == Lines{"1:28: " + late});
    CHECK(warnings(add + "-u 16383" + key) == Lines{});
    CHECK(warnings(add + "-u 16384" + key) == Lines{"1:20: request ids above 16383 are the host's to give"});
}

TEST_CASE("the old formats")
{
    CHECK(warnings("add ::1 ::2 ah-old 256 -A hmac-sha1 \"12345678901234567890\";") ==
          Lines{"1:13: ah-old is a format of 1995 that hosts refuse by now"});
}

TEST_CASE("parts without effect")
{
    CHECK(warnings("add ::1 ::2 ah 256 -hwif em0 -A hmac-sha1 \"12345678901234567890\";") ==
          Lines{"1:20: -hwif has no effect: this stack has no hardware to do its work"});
    CHECK(warnings("spdadd ::1 ::2 any -P out none esp/transport//require;") ==
          Lines{"1:23: the rules have no effect: the action is not 'ipsec'"});
}

TEST_CASE("duplicates within the file: what is deleted in between is none")
{
    const auto taken = [](std::string_view text) { return warnings(text); };
    CHECK(taken(good + good) == Lines{"2:27: this SPI is taken: line 1 adds the same SA"});
    CHECK(taken(good + "flush;" + good) == Lines{});
    CHECK(taken(good + "flush esp;" + good) == Lines{});
    CHECK(taken(good + "flush ah;" + good).size() == 1);
    CHECK(taken(good + "delete 10.0.0.1 10.0.0.2 esp 256;" + good) == Lines{});
    CHECK(taken(good + "delete 10.0.0.1 10.0.0.2 esp 257;" + good).size() == 1);
    CHECK(taken(good + "deleteall 10.0.0.1 10.0.0.2 esp;" + good) == Lines{});
    CHECK(taken(good + "deleteall 10.0.0.3 10.0.0.2 esp;" + good).size() == 1);
    CHECK(taken(good + "update 10.0.0.1 10.0.0.2 esp 256 -lh 5;") == Lines{});
    // The source does not make another SA of it (RFC 4301 §4.1), the protocol does.
    CHECK(taken("add 10.0.0.9 10.0.0.2 esp 256 -E null -A hmac-sha1 \"12345678901234567890\";" + good).size() == 1);
    CHECK(taken("add 10.0.0.1 10.0.0.2 ah 256 -A hmac-sha1 \"12345678901234567890\";" + good) == Lines{});

    const std::string policy = "spdadd 10.0.0.0/24 10.1.0.0/24[80] tcp -P in none;\n";
    CHECK(taken(policy + policy) == Lines{"2:1: this selector is taken: line 1 adds a policy with it"});
    CHECK(taken(policy + "spdupdate 10.0.0.0/24 10.1.0.0/24[80] tcp -P in discard;") == Lines{});
    CHECK(taken(policy + "spddelete 10.0.0.0/24 10.1.0.0/24[80] tcp -P in;" + policy) == Lines{});
    CHECK(taken(policy + "spddelete 10.0.0.0/24 10.1.0.0/24[80] tcp -P out;" + policy).size() == 1);
    CHECK(taken(policy + "spdflush;" + policy) == Lines{});
    CHECK(taken(policy + "spdadd 10.0.0.0/24 10.1.0.0/24[80] tcp -P out none;"
                         "spdadd 10.0.0.0/24 10.1.0.0/24[81] tcp -P in none;"
                         "spdadd 10.0.0.0/25 10.1.0.0/24[80] tcp -P in none;"
                         "spdadd 10.0.0.0/24 10.1.0.0/24[80] udp -P in none;") == Lines{});
}

TEST_CASE("policies: what the SPD cannot hold")
{
    CHECK(errors("spdadd ::1 ::2 any -P out ipsec;") ==
          Lines{"1:23: 'ipsec' needs a rule, such as esp/transport//require"});
    CHECK(errors("spdadd ::1 ::2 any -P out bypass;") ==
          Lines{"1:23: 'entrust' and 'bypass' are for sockets, not for the SPD"});
    CHECK(warnings("spdadd ::1 ::2 any -P out;") == Lines{"1:23: no action is given: 'discard' is taken"});
    CHECK(warnings("spddelete ::1 ::2 any -P out;") == Lines{});
    CHECK(warnings("spdadd ::1 ::2 any -P out ipsec esp/transport//unique:20000;") ==
          Lines{"1:23: unique:20000: ids above 16383 are the host's to give"});
}

TEST_CASE("policies: selectors that are hardly meant")
{
    CHECK(warnings("spdadd 0.0.0.0 10.0.0.1 any -P out none;") ==
          Lines{"1:8: 0.0.0.0 without a length is that one address; all addresses are 0.0.0.0/0"});
    CHECK(warnings("spdadd 0.0.0.0/0 10.0.0.1/24 any -P out none;") ==
          Lines{"1:18: 10.0.0.1/24 has bits beyond its length: the network is 10.0.0.0"});
    CHECK(warnings("spdadd ::1[80] ::2 esp -P out none;") == Lines{"1:20: esp has no ports: no packet matches"});
    CHECK(warnings("spdadd ::1[80] ::2 any -P out none;") == Lines{});
    CHECK(warnings("spdadd ::1 ::2 icmp 8,0 -P out none;") ==
          Lines{"1:16: IPv6 has icmp6, not icmp: no packet matches"});
    CHECK(warnings("spdadd 10.0.0.1 10.0.0.2 icmp6 -P out none;") ==
          Lines{"1:26: IPv4 has icmp, not icmp6: no packet matches"});
    CHECK(warnings("spdadd ::1 ::2 icmp6 135,0 -P out none;") == Lines{});
    CHECK(warnings("spdadd ::1 ::2 gre 7 -P out none;") == Lines{});
}

TEST_CASE("the recorded samples: KAME's has no errors but what was withdrawn")
{
    const auto sample = check(read("samples/sample.cf"));
    CHECK(sample.commands == 55);
    CHECK(sample.errors.size() == 4);
    for (const auto& error : sample.errors)
        CHECK(error.find("'rc5-cbc' is not supported by this stack: it was withdrawn from IPsec") != error.npos);
    CHECK(errors(read("samples/sample-policy02.cf")) == Lines{});
    CHECK(errors(read("manpage/freebsd-setkey8.cf")) == Lines{});
}
