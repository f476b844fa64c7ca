// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/address.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <set>

using namespace latchkey;

TEST_CASE("addresses are read and printed as the C library does")
{
    // RFC 5952 §4: the canonical text of IPv6 addresses.
    const std::pair<const char*, const char*> cases[] = {
        {"10.0.0.1", "10.0.0.1"},
        {"255.255.255.255", "255.255.255.255"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"2001:0DB8::0001", "2001:db8::1"},
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"::", "::"},
        {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
    };
    for (const auto& [in, out] : cases) {
        const auto address = Address::parse(in);
        REQUIRE_MESSAGE(address.has_value(), in);
        CHECK(address->text() == out);
        CHECK(Address::parse(address->text()) == *address);
    }
    for (const auto* bad :
         {"", "10.0.0", "10.0.0.256", "10.0.0.1 ", "010.0.0.1x", ":::", "fe80::1%lo", "host", "1::2::3", "10.0.0.1/24"})
        CHECK_MESSAGE(!Address::parse(bad).has_value(), bad);
    CHECK(Address{}.text() == "none");
}

TEST_CASE("bytes are in network order and as many as the family has")
{
    const auto v4 = Address::v4(192, 0, 2, 7);
    REQUIRE(v4.bytes().size() == 4);
    CHECK(v4.bytes()[0] == 192);
    CHECK(v4.bytes()[3] == 7);
    CHECK(v4.bits() == 32);
    const auto v6 = *Address::parse("2001:db8::7");
    REQUIRE(v6.bytes().size() == 16);
    CHECK(v6.bytes()[0] == 0x20);
    CHECK(v6.bytes()[15] == 7);
    CHECK(v6.bits() == 128);
    CHECK(Address{}.bytes().empty());
    CHECK(Address::v4(v4.bytes().first<4>()) == v4);
    CHECK(Address::v6(v6.bytes().first<16>()) == v6);
    CHECK(Address::any(Family::v4) == *Address::parse("0.0.0.0"));
    CHECK(Address::any(Family::v6) == *Address::parse("::"));
    CHECK_FALSE(Address::any(Family::v4) == Address::any(Family::v6));
}

TEST_CASE("kinds of addresses")
{
    const auto is = [](const char* text) { return *Address::parse(text); };
    CHECK(is("0.0.0.0").is_unspecified());
    CHECK(is("::").is_unspecified());
    CHECK(Address{}.is_unspecified());
    CHECK_FALSE(is("0.0.0.1").is_unspecified());

    CHECK_FALSE(is("223.255.255.255").is_multicast());
    CHECK(is("224.0.0.0").is_multicast());
    CHECK(is("239.255.255.255").is_multicast());
    CHECK_FALSE(is("240.0.0.0").is_multicast());
    CHECK_FALSE(is("255.255.255.254").is_multicast());
    CHECK(is("255.255.255.255").is_multicast());
    CHECK(is("ff02::1").is_multicast());
    CHECK_FALSE(is("fe80::1").is_multicast());

    CHECK(is("127.0.0.1").is_loopback());
    CHECK(is("127.255.0.1").is_loopback());
    CHECK_FALSE(is("128.0.0.1").is_loopback());
    CHECK(is("::1").is_loopback());
    CHECK_FALSE(is("::2").is_loopback());
    CHECK_FALSE(is("::").is_loopback());

    CHECK(is("169.254.0.1").is_link_local());
    CHECK_FALSE(is("169.253.0.1").is_link_local());
    CHECK(is("fe80::1").is_link_local());
    CHECK(is("febf::1").is_link_local());
    CHECK_FALSE(is("fec0::1").is_link_local());
    CHECK_FALSE(is("fe7f::1").is_link_local());
}

TEST_CASE("masking agrees with arithmetic at every length")
{
    const auto all = Address::v4(255, 255, 255, 255);
    for (unsigned length = 0; length <= 32; ++length) {
        const auto mask = length == 0 ? 0u : 0xffffffffu << (32 - length);
        CHECK(wire::field<std::uint32_t>(all.masked(length).bytes(), 0) == mask);
    }
    CHECK(all.masked(33) == all);
    const auto v6 = *Address::parse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    for (unsigned length = 0; length <= 128; ++length) {
        const auto masked = v6.masked(length);
        const auto high = length == 0 ? 0u : length >= 64 ? ~std::uint64_t{0} : ~std::uint64_t{0} << (64 - length);
        const auto low = length <= 64 ? 0u : length == 128 ? ~std::uint64_t{0} : ~std::uint64_t{0} << (128 - length);
        CHECK(wire::field<std::uint64_t>(masked.bytes(), 0) == high);
        CHECK(wire::field<std::uint64_t>(masked.bytes(), 8) == low);
    }
    CHECK(Address::parse("2001:db8:1234:5678::1")->masked(52).text() == "2001:db8:1234:5000::");
}

TEST_CASE("prefixes")
{
    const auto prefix = [](const char* text) {
        const auto p = Prefix::parse(text);
        REQUIRE_MESSAGE(p.has_value(), text);
        return *p;
    };
    CHECK(prefix("10.0.0.0/24").contains(Address::v4(10, 0, 0, 255)));
    CHECK_FALSE(prefix("10.0.0.0/24").contains(Address::v4(10, 0, 1, 0)));
    CHECK(prefix("10.0.0.7/24").contains(Address::v4(10, 0, 0, 1)));   // host bits do not count
    CHECK(prefix("0.0.0.0/0").contains(Address::v4(255, 1, 2, 3)));
    CHECK_FALSE(prefix("0.0.0.0/0").contains(*Address::parse("::1")));
    CHECK(prefix("::/0").contains(*Address::parse("2001:db8::1")));
    CHECK_FALSE(prefix("::/0").contains(Address::v4(10, 0, 0, 1)));
    CHECK(prefix("fd00::/65").contains(*Address::parse("fd00::7fff:0:0:1")));
    CHECK_FALSE(prefix("fd00::/65").contains(*Address::parse("fd00::8000:0:0:1")));
    CHECK(prefix("10.0.0.1").length == 32);
    CHECK(prefix("fd00::1").length == 128);
    CHECK(prefix("fd00::/64").text() == "fd00::/64");
    for (const auto* bad : {"10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/ 8", "10.0.0.0/8x", "/8",
                            "10.0.0.0/4294967304"})
        CHECK_MESSAGE(!Prefix::parse(bad).has_value(), bad);
}

TEST_CASE("end points are printed with their port")
{
    CHECK(Endpoint{Address::v4(10, 0, 0, 1), 80, 0}.text() == "10.0.0.1:80");
    CHECK(Endpoint{*Address::parse("fd00::1"), 443, 0}.text() == "[fd00::1]:443");
}

TEST_CASE("hashes tell close addresses and the families apart")
{
    std::set<std::uint64_t> seen, low_bits;
    for (unsigned i = 0; i < 4096; ++i) {
        const auto b = static_cast<std::uint8_t>(i >> 8), c = static_cast<std::uint8_t>(i);
        seen.insert(Address::v4(10, 0, b, c).hash());
        const std::array<std::uint8_t, 16> raw{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b, c};
        seen.insert(Address::v6(raw).hash());
        low_bits.insert(Address::v4(10, 0, b, c).hash() & 4095);
    }
    CHECK(seen.size() == 8192);
    CHECK(low_bits.size() > 2400);   // 4096 random draws leave about 63 % of 4096 buckets used
    CHECK(Address::any(Family::v4).hash() != Address::any(Family::v6).hash());
}

TEST_CASE("order: by family, then by bytes")
{
    CHECK(Address{} < Address::v4(0, 0, 0, 0));
    CHECK(Address::v4(9, 255, 0, 0) < Address::v4(10, 0, 0, 0));
    CHECK(Address::v4(255, 255, 255, 255) < *Address::parse("::"));
}
