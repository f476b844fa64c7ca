// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/sad.hpp"

#include <doctest/doctest.h>
#include <set>

using namespace latchkey;

namespace {

const Address alpha = Address::v4(10, 0, 0, 1), beta = Address::v4(10, 0, 0, 2), gamma = Address::v4(10, 0, 0, 3);

std::unique_ptr<Sa> make(std::uint32_t spi, const Address& source = alpha, const Address& destination = beta,
                         std::uint32_t reqid = 0, Mode mode = Mode::any)
{
    auto sa = std::make_unique<Sa>();
    sa->spi = spi;
    sa->source = source;
    sa->destination = destination;
    sa->reqid = reqid;
    sa->mode = mode;
    sa->state = SaState::mature;
    return sa;
}

std::uint32_t chosen(const Sad& sad, std::uint32_t reqid = 0, Mode mode = Mode::transport, bool prefer_old = true)
{
    const Sa* sa = sad.outbound(ip_proto::esp, mode, alpha, beta, reqid, prefer_old);
    return sa == nullptr ? 0 : sa->spi;
}

}  // namespace

TEST_CASE("an SA is known by protocol, destination and SPI")
{
    Sad sad;
    REQUIRE(sad.insert(make(1)).has_value());
    CHECK(sad.insert(make(1, gamma)).error().code == Errc::exists);
    CHECK(sad.insert(make(1, alpha, gamma)).has_value());
    auto ah = make(1);
    ah->protocol = ip_proto::ah;
    CHECK(sad.insert(std::move(ah)).has_value());
    CHECK(sad.find(ip_proto::esp, beta, 1)->destination == beta);
    CHECK(sad.find(ip_proto::ah, beta, 1)->protocol == ip_proto::ah);
    CHECK(sad.find(ip_proto::esp, alpha, 1) == nullptr);
    CHECK(sad.find(ip_proto::esp, beta, 2) == nullptr);
    CHECK(sad.size() == 3);
    CHECK(sad.size(ip_proto::esp) == 2);
    CHECK(sad.size(ip_proto::ipcomp) == 0);
}

TEST_CASE("an exact destination comes before a wildcard one")
{
    Sad sad;
    REQUIRE(sad.insert(make(1, alpha, Address::any(Family::v4))).has_value());
    CHECK(sad.find(ip_proto::esp, beta, 1)->destination.is_unspecified());
    REQUIRE(sad.insert(make(1)).has_value());
    CHECK(sad.find(ip_proto::esp, beta, 1)->destination == beta);
    CHECK(sad.find(ip_proto::esp, gamma, 1)->destination.is_unspecified());
}

TEST_CASE("outbound choice: mode, reqid, age, state")
{
    Sad sad;
    CHECK(chosen(sad) == 0);
    Sa* tunnel = *sad.insert(make(1, alpha, beta, 5, Mode::tunnel));
    REQUIRE(sad.insert(make(2, alpha, beta, 5)).has_value());
    REQUIRE(sad.insert(make(3, alpha, beta, 6)).has_value());
    CHECK(chosen(sad, 0, Mode::tunnel) == 1);
    CHECK(chosen(sad, 0, Mode::transport) == 2);
    CHECK(chosen(sad, 0, Mode::transport, false) == 3);
    CHECK(chosen(sad, 5, Mode::tunnel, false) == 2);
    CHECK(chosen(sad, 6) == 3);
    CHECK(chosen(sad, 7) == 0);
    tunnel->state = SaState::dying;
    CHECK(chosen(sad, 5, Mode::tunnel) == 2);
    tunnel->state = SaState::larval;
    sad.erase(*sad.find(ip_proto::esp, beta, 2));
    CHECK(chosen(sad, 5, Mode::tunnel) == 0);
}

TEST_CASE("replace() keeps the place in dumps and joins the groups anew")
{
    Sad sad;
    Sa* larval = *sad.insert(make(1));
    larval->state = SaState::larval;
    REQUIRE(sad.insert(make(2)).has_value());
    const auto serial = larval->serial;
    Sa& mature = sad.replace(*larval, make(1, alpha, beta, 9));
    CHECK(mature.serial == serial);
    CHECK(sad.size() == 2);
    CHECK(sad.find(ip_proto::esp, beta, 1) == &mature);
    CHECK(chosen(sad, 9) == 1);
    CHECK(chosen(sad) == 2);   // it counts as the newest now
    std::uint64_t cursor = 0;
    CHECK(sad.next(cursor, 0) == &mature);
}

TEST_CASE("a cursor sees each SA that stays exactly once, whatever comes and goes")
{
    Sad sad;
    for (std::uint32_t spi = 1; spi <= 1000; ++spi)
        REQUIRE(sad.insert(make(spi)).has_value());
    std::set<std::uint32_t> seen;
    std::uint64_t cursor = 0;
    std::uint32_t step = 0;
    while (const Sa* sa = sad.next(cursor, 0)) {
        CHECK(seen.insert(sa->spi).second);
        if (++step % 3 == 0)
            REQUIRE(sad.insert(make(10'000 + step)).has_value());
        for (const std::uint32_t victim : {step * 7 % 1000, step * 11 % 1000})
            if (victim % 2 == 0)
                if (Sa* gone = sad.find(ip_proto::esp, beta, victim))
                    sad.erase(*gone);
        if (step > 5000)
            break;
    }
    for (std::uint32_t spi = 1; spi <= 999; spi += 2)
        CHECK(seen.contains(spi));
}

TEST_CASE("any_between() finds what is left until nothing is")
{
    Sad sad;
    for (std::uint32_t spi = 1; spi <= 10; ++spi)
        REQUIRE(sad.insert(make(spi, spi % 2 ? alpha : gamma)).has_value());
    int erased = 0;
    while (Sa* sa = sad.any_between(ip_proto::esp, alpha, beta)) {
        CHECK(sa->source == alpha);
        sad.erase(*sa);
        ++erased;
    }
    CHECK(erased == 5);
    CHECK(sad.size() == 5);
}

TEST_CASE("100,000 SAs, then none")
{
    Sad sad;
    constexpr std::uint32_t count = 100'000;
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto peer = Address::v4(10, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8),
                                      static_cast<std::uint8_t>(i));
        REQUIRE(sad.insert(make(1000 + i, alpha, peer, i % 7)).has_value());
    }
    CHECK(sad.size() == count);
    for (std::uint32_t i = 0; i < count; i += 997) {
        const auto peer = Address::v4(10, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8),
                                      static_cast<std::uint8_t>(i));
        REQUIRE(sad.find(ip_proto::esp, peer, 1000 + i) != nullptr);
        CHECK(sad.outbound(ip_proto::esp, Mode::tunnel, alpha, peer, i % 7, true)->spi == 1000 + i);
    }
    std::uint64_t cursor = 0;
    while (Sa* sa = sad.next(cursor, 0))
        sad.erase(*sa);
    CHECK(sad.size() == 0);
    CHECK(sad.find(ip_proto::esp, Address::v4(10, 0, 0, 7), 1007) == nullptr);
}
