// SPDX-License-Identifier: BSD-2-Clause
// The SAD against a std::map and a list: the same SAs are found by SPI and chosen for sending after any sequence of
// insertions, replacements and erasures, and a dump that runs meanwhile sees what stays exactly once.
#include "pfkey/sad.hpp"

#include <algorithm>
#include <map>
#include <rapidcheck.h>
#include <set>
#include <tuple>
#include <vector>

using namespace latchkey;

namespace {

using Key = std::tuple<std::uint8_t, Address, std::uint32_t>;

struct Model {
    std::map<Key, Sa*> by_key;
    std::vector<Sa*> by_age;   // oldest first; a replaced SA counts as new

    // KAME: the old ones (dying, then mature) or the new ones (mature, then dying) first; wildcard addresses last.
    Sa* outbound(std::uint8_t protocol, Mode mode, const Address& source, const Address& destination,
                 std::uint32_t reqid, bool prefer_old) const
    {
        auto order = by_age;
        if (!prefer_old)
            std::ranges::reverse(order);
        const Address any = Address::any(Family::v4);
        const auto fits = [&](const Sa& sa, const Address& from, const Address& to) {
            return sa.protocol == protocol && sa.source == from && sa.destination == to &&
                   (sa.mode == mode || sa.mode == Mode::any) && (reqid == 0 || sa.reqid == reqid);
        };
        for (const auto& [from, to] : {std::pair{source, destination}, {any, destination}, {source, any}, {any, any}})
            for (const bool first : {true, false})
                for (Sa* sa : order)
                    if (sa->state == (first == prefer_old ? SaState::dying : SaState::mature) && fits(*sa, from, to))
                        return sa;
        return nullptr;
    }

    Sa* find(const Key& key) const
    {
        const auto& [protocol, destination, spi] = key;
        const auto found = by_key.find(key), wild = by_key.find({protocol, Address::any(Family::v4), spi});
        return found != by_key.end() ? found->second : wild != by_key.end() ? wild->second : nullptr;
    }

    bool encapsulates(const Address& local, std::uint16_t port) const
    {
        return std::ranges::any_of(by_age, [&](const Sa* sa) {
            return sa->natt != nullptr && sa->natt->destination_port == port &&
                   (sa->destination == local || sa->destination == Address::any(local.family()));
        });
    }
};

Address random_address()
{
    const auto last = *rc::gen::inRange<std::uint8_t>(0, 4);
    return last == 0 ? Address::any(Family::v4) : Address::v4(10, 0, 0, last);
}

std::unique_ptr<NatTraversal> random_natt()
{
    const auto port = *rc::gen::inRange<std::uint16_t>(0, 6);
    if (port < 3)
        return nullptr;
    auto natt = std::make_unique<NatTraversal>();
    natt->destination_port = port;
    return natt;
}

std::unique_ptr<Sa> random_sa()
{
    auto sa = std::make_unique<Sa>();
    sa->protocol = *rc::gen::element(ip_proto::esp, ip_proto::esp, ip_proto::ah);
    sa->spi = *rc::gen::inRange<std::uint32_t>(1, 12);
    sa->source = random_address();
    sa->destination = random_address();
    sa->reqid = *rc::gen::inRange<std::uint32_t>(0, 3);
    sa->mode = *rc::gen::element(Mode::any, Mode::transport, Mode::tunnel);
    sa->natt = random_natt();
    sa->state = *rc::gen::element(SaState::larval, SaState::mature, SaState::mature, SaState::dying);
    return sa;
}

Key key_of(const Sa& sa)
{
    return {sa.protocol, sa.destination, sa.spi};
}

void check_lookups(const Sad& sad, const Model& model)
{
    RC_ASSERT(sad.size() == model.by_key.size());
    for (const auto& [key, sa] : model.by_key)
        RC_ASSERT(sad.find(std::get<0>(key), std::get<1>(key), std::get<2>(key)) == sa);
    for (std::uint16_t port = 3; port < 6; ++port)
        for (const auto& [key, sa] : model.by_key)
            RC_ASSERT(sad.encapsulates(sa->destination, port) == model.encapsulates(sa->destination, port));
    for (int i = 0; i < 6; ++i) {
        const auto protocol = *rc::gen::element(ip_proto::esp, ip_proto::ah);
        const auto mode = *rc::gen::element(Mode::transport, Mode::tunnel);
        const Address source = random_address(), destination = random_address();
        const auto reqid = *rc::gen::inRange<std::uint32_t>(0, 4);
        const bool old = *rc::gen::arbitrary<bool>();
        RC_ASSERT(sad.outbound(protocol, mode, source, destination, reqid, old) ==
                  model.outbound(protocol, mode, source, destination, reqid, old));
        const auto spi = *rc::gen::inRange<std::uint32_t>(1, 12);
        RC_ASSERT(sad.find(protocol, destination, spi) == model.find({protocol, destination, spi}));
    }
}

// What happens to an SA that stays: it changes its state, its ports, or its place.
void change(Sad& sad, Model& model, Sa* sa)
{
    const int what = *rc::gen::inRange(0, 3);
    if (what == 0) {
        sad.set_state(*sa, *rc::gen::element(SaState::mature, SaState::dying));
    } else if (what == 1) {
        sad.set_natt(*sa, random_natt());
    } else {   // as MIGRATE and UPDATE do it
        const Address source = random_address(), destination = random_address();
        const Key key{sa->protocol, destination, sa->spi};
        if (model.by_key.contains(key))
            return;
        model.by_key.erase(key_of(*sa));
        std::erase(model.by_age, sa);
        auto held = sad.take(*sa);
        held->source = source;
        held->destination = destination;
        sad.fill(std::move(held));
        model.by_key[key] = sa;
        model.by_age.push_back(sa);
    }
}

void agrees_with_a_map()
{
    Sad sad;
    Model model;
    std::uint64_t cursor = 0;
    std::set<Sa*> dumped, must_see;
    const int steps = *rc::gen::inRange(1, 150);
    const int dump_from = *rc::gen::inRange(0, steps);
    for (int step = 0; step < steps; ++step) {
        const int action = *rc::gen::inRange(0, 13);
        if (action >= 10 && !model.by_age.empty()) {
            change(sad, model, model.by_age[*rc::gen::inRange<std::size_t>(0, model.by_age.size())]);
        } else if (action < 6 || model.by_age.empty()) {
            auto sa = random_sa();
            const Key key = key_of(*sa);
            const auto inserted = sad.insert(std::move(sa));
            RC_ASSERT(inserted.has_value() == !model.by_key.contains(key));
            if (inserted) {
                model.by_key[key] = *inserted;
                model.by_age.push_back(*inserted);
            }
        } else {
            Sa* victim = model.by_age[*rc::gen::inRange<std::size_t>(0, model.by_age.size())];
            const Key key = key_of(*victim);
            std::erase(model.by_age, victim);
            must_see.erase(victim);
            dumped.erase(victim);
            if (action < 9) {
                model.by_key.erase(key);
                sad.erase(*victim);
            } else {
                auto with = random_sa();
                std::tie(with->protocol, with->destination, with->spi) = key;
                Sa& now = sad.replace(*victim, std::move(with));
                model.by_key[key] = &now;
                model.by_age.push_back(&now);
            }
        }
        check_lookups(sad, model);
        if (step == dump_from)
            must_see.insert(model.by_age.begin(), model.by_age.end());
        if (step >= dump_from)
            if (Sa* sa = sad.next(cursor, 0))
                RC_ASSERT(dumped.insert(sa).second);
    }
    while (Sa* sa = sad.next(cursor, 0))
        RC_ASSERT(dumped.insert(sa).second);
    RC_ASSERT(std::ranges::includes(dumped, must_see));
}

}  // namespace

int main()
{
    return rc::check("the SAD finds what a map finds", agrees_with_a_map) ? 0 : 1;
}
