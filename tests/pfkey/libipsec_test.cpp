// SPDX-License-Identifier: BSD-2-Clause
#include "tests/pfkey/records.hpp"

#include <libpfkey.h>
#include <netipsec/ipsec.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <doctest/doctest.h>
#include <memory>
#include <thread>
#include <unistd.h>

using namespace latchkey;
using namespace latchkey::test;

namespace {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Text = std::unique_ptr<char, Free>;

Text set_policy(const std::string& text)
{
    return Text(ipsec_set_policy(text.data(), static_cast<int>(text.size())));
}

std::string dump(const Text& policy, const char* delimiter)
{
    const Text text(ipsec_dump_policy(policy.get(), delimiter));
    return text ? text.get() : std::string("-");
}

Record bytes_of(const Text& policy)
{
    const auto* bytes = static_cast<const std::uint8_t*>(static_cast<const void*>(policy.get()));
    return {bytes, bytes + ipsec_get_policylen(policy.get())};
}

// The extension header of a bare policy looks like a message's only extension to masked().
std::string masked_policy(const Record& policy)
{
    Record record(16);
    record.insert(record.end(), policy.begin(), policy.end());
    return hex(Bytes(masked(record)).subspan(16));
}

struct Row {
    std::string policy, first, second, third;
};

std::vector<Row> recorded_rows()
{
    std::vector<Row> rows;
    std::ifstream in(LATCHKEY_TEST_DATA "/policy-strings/policy-strings.libipsec.tsv");
    for (std::string line; std::getline(in, line);) {
        std::array<std::string, 3> column;
        for (std::size_t i = 3; i-- > 0;) {   // the policy itself may contain tabs
            const auto tab = line.rfind('\t');
            column[i] = line.substr(tab + 1);
            line.resize(tab);
        }
        rows.push_back({line, column[0], column[1], column[2]});
    }
    return rows;
}

// A dump of a policy that is wrong in one place.
struct Spoilt {
    const char* name;
    std::size_t at;
    std::uint8_t value;
    int code;
    std::string_view words;
};

}  // namespace

TEST_CASE("ipsec_set_policy, ipsec_dump_policy and ipsec_strerror answer as a real libipsec did")
{
    std::size_t rows = 0;
    for (const auto& row : recorded_rows()) {
        CAPTURE(row.policy);
        ++rows;
        const auto policy = set_policy(row.policy);
        if (row.first == "ERR") {
            CHECK_FALSE(policy);
            // On a plain syntax error libipsec leaves the code of the call before in place; here that one was recorded.
            const bool stale = row.policy == "OUT IPSEC esp/transport//require";
            CHECK(std::string(ipsec_strerror()) == (stale ? "Invalid argument" : row.second));
            CHECK(std::strlen(latchkey_ipsec_detail()) > 0);
            CHECK(errno == EINVAL);
            continue;
        }
        REQUIRE_MESSAGE(policy, latchkey_ipsec_detail());
        CHECK(hex(bytes_of(policy)) == masked_policy(unhex(row.first)));
        CHECK(dump(policy, " | ") == row.third);
        CHECK(std::string(ipsec_strerror()) == "Success");
        auto recorded = unhex(row.first);   // a real library's bytes, with its garbage in reserved fields
        const Text text(ipsec_dump_policy(static_cast<char*>(static_cast<void*>(recorded.data())), " | "));
        REQUIRE(text);
        CHECK(text.get() == row.third);
    }
    CHECK(rows == 52);
}

TEST_CASE("what the manual pages show goes round: text, bytes, the same text")
{
    // KAME's and ipsec-tools' ipsec_set_policy(3), QNX's ipsec, Linux' priorities.
    const char* const examples[] = {
        "in discard",
        "out discard",
        "out none",
        "out bypass",
        "in entrust",
        "in ipsec",
        "out ipsec esp/transport//require",
        "in ipsec ah/transport//require",
        "out ipsec esp/tunnel/10.1.1.2-10.1.1.1/use",
        "in ipsec ipcomp/transport//use esp/transport//use",
        "out ipsec esp/transport//unique",
        "out ipsec esp/transport//unique:1 ah/transport//unique:16383",
        "out ipsec esp/transport//default",
        "fwd ipsec esp/tunnel/fec0::10-fec0::11/require",
        "out prio low - 1073741823 ipsec ah/transport//use",
        "out prio high + 5 none",
        "out prio def + 100 discard",
    };
    for (const auto* example : examples) {
        CAPTURE(example);
        const auto policy = set_policy(example);
        REQUIRE_MESSAGE(policy, latchkey_ipsec_detail());
        std::string want = example;
        if (want.find("prio") == want.npos)   // said in the dump, as the number is what is stored
            want.insert(want.find(' '), " prio def");
        CHECK(dump(policy, nullptr) == want);
        CHECK(bytes_of(set_policy(dump(policy, nullptr))) == bytes_of(policy));
    }
    // White space between rules is free, a missing level means default.
    CHECK(dump(set_policy("in ipsec ipcomp/transport//use\n        esp/transport//use"), " ") ==
          "in prio def ipsec ipcomp/transport//use esp/transport//use");
    CHECK(dump(set_policy("out ipsec esp/transport"), " ") == "out prio def ipsec esp/transport//default");
    CHECK(dump(set_policy("out ipsec esp/tunnel/10.0.0.1-10.0.0.2"), " ") ==
          "out prio def ipsec esp/tunnel/10.0.0.1-10.0.0.2/default");
}

TEST_CASE("KAME's short forms, which the recorded libipsec refuses, are refused")
{
    for (const auto* text : {"out ipsec esp/use", "out ipsec encap/10.0.0.1-10.0.0.2"}) {
        CAPTURE(text);
        CHECK_FALSE(set_policy(text));
    }
}

TEST_CASE("ports of tunnel end points are shown when asked for")
{
    const auto policy = set_policy("out ipsec esp/tunnel/10.0.0.1[4500]-10.0.0.2[any]/require");
    REQUIRE(policy);
    const Text with(ipsec_dump_policy_withports(policy.get(), " "));
    CHECK(std::string(with.get()) == "out prio def ipsec esp/tunnel/10.0.0.1[4500]-10.0.0.2[any]/require");
    CHECK(dump(policy, " ") == "out prio def ipsec esp/tunnel/10.0.0.1-10.0.0.2/require");
}

TEST_CASE("the length is a limit, not a promise that the text is that long")
{
    const char text[32] = "out none";
    CHECK(Text(ipsec_set_policy(text, sizeof text)));
    CHECK(Text(ipsec_set_policy(text, 3)));      // "out" alone names a policy to delete
    CHECK_FALSE(Text(ipsec_set_policy(text, 6)));
    CHECK_FALSE(Text(ipsec_set_policy(text, 0)));
    CHECK_FALSE(Text(ipsec_set_policy(text, -1)));
    CHECK_FALSE(Text(ipsec_set_policy(nullptr, 4)));
    CHECK(latchkey_ipsec_error() == EIPSEC_INVAL_ARGUMENT);
}

TEST_CASE("each refusal of a policy text has its code")
{
    const auto code = [](const char* text) {
        CHECK_FALSE(set_policy(text));
        return latchkey_ipsec_error();
    };
    CHECK(code("must") == EIPSEC_INVAL_ARGUMENT);
    CHECK(code("out ipsec esp") == EIPSEC_FEW_ARGUMENTS);
    CHECK(code("out ipsec esp/tunnel//use") == EIPSEC_INVAL_ADDRESS);
    CHECK(code("out ipsec esp/tunnel/10.0.0.1-::1/use") == EIPSEC_FAMILY_MISMATCH);
    CHECK(code("in ipsec esp/transport/me-any/use") == EIPSEC_INVAL_DIR);
    CHECK(code("out ipsec esp/transport//unique:4294967296") == EIPSEC_INVAL_LEVEL);
    CHECK(code("out prio 2147483649 none") == EIPSEC_INVAL_PRIORITY_OFFSET);
    CHECK(std::string(ipsec_strerror()) == "Priority offset not in valid range [-2147483647, 2147483648]");
    CHECK(code("out prio low - 1073741824 none") == EIPSEC_INVAL_PRIORITY_BASE_OFFSET);
    CHECK(std::string(latchkey_ipsec_detail()).starts_with("column 16: expected an offset"));
}

TEST_CASE("what is no policy is not dumped, and the code says what is wrong")
{
    const std::string text = "out ipsec esp/tunnel/10.0.0.1-10.0.0.2/require";
    const Spoilt spoilt[] = {
        {"length 0", 0, 0, EIPSEC_INVAL_POLICY, "Invalid security policy"},
        {"length less than a header", 0, 1, EIPSEC_INVAL_POLICY, "Invalid security policy"},
        {"type of extension", 2, 17, EIPSEC_INVAL_EXTTYPE, "Invalid extension type"},
        {"type of policy", 4, 5, EIPSEC_INVAL_POLICY, "Invalid security policy"},
        {"direction", 6, 4, EIPSEC_INVAL_DIR, "Invalid direction"},
        {"request shorter than its header", 16, 15, EIPSEC_INVAL_POLICY, "Invalid security policy"},
        {"request longer than the policy", 16, 49, EIPSEC_INVAL_POLICY, "Invalid security policy"},
        {"protocol", 18, 6, EIPSEC_INVAL_PROTO, "Invalid ipsec protocol"},
        {"mode", 20, 3, EIPSEC_INVAL_MODE, "Invalid ipsec mode"},
        {"level", 21, 4, EIPSEC_INVAL_LEVEL, "Invalid ipsec level"},
        {"family of the second end point", 48, 1, EIPSEC_INVAL_ADDRESS, "Invalid address specification"},
    };
    for (const auto& s : spoilt) {
        CAPTURE(s.name);
        const auto policy = set_policy(text);
        REQUIRE(policy);
        policy.get()[s.at] = static_cast<char>(s.value);
        CHECK(dump(policy, " ") == "-");
        CHECK(latchkey_ipsec_error() == s.code);
        CHECK(std::string(ipsec_strerror()) == s.words);
    }
    CHECK(ipsec_dump_policy(nullptr, " ") == nullptr);
    CHECK(ipsec_get_policylen(nullptr) == -1);
    CHECK(latchkey_ipsec_error() == EIPSEC_INVAL_ARGUMENT);
}

TEST_CASE("the verdict belongs to the thread")
{
    CHECK_FALSE(set_policy("must"));
    std::string elsewhere;
    std::thread([&] {
        elsewhere = ipsec_strerror();
        CHECK_FALSE(set_policy("out ipsec esp"));
    }).join();
    CHECK(elsewhere == "Success");
    CHECK(std::string(ipsec_strerror()) == "Invalid argument");
}

TEST_CASE("key material in hexadecimal: groups of four bytes, 32 bytes to a line")
{
    std::array<std::uint8_t, 34> key{};
    for (std::size_t i = 0; i < key.size(); ++i)
        key[i] = static_cast<std::uint8_t>(i);
    const std::string path = "libipsec_test.hexdump";
    const int saved = ::dup(STDOUT_FILENO);
    std::fflush(stdout);
    REQUIRE(std::freopen(path.c_str(), "w", stdout) != nullptr);
    ipsec_hexdump(key.data(), static_cast<int>(key.size()));
    std::fflush(stdout);
    ::dup2(saved, STDOUT_FILENO);
    ::close(saved);
    std::ifstream in(path);
    std::string first, second;
    std::getline(in, first);
    std::getline(in, second);
    std::remove(path.c_str());
    CHECK(first == " 00010203 04050607 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f");
    CHECK(second == " 2021");
}
