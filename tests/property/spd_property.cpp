// SPDX-License-Identifier: BSD-2-Clause
// The SPD against the plainest model there is: a list per direction, walked from the front. Random rules (nested prefixes,
// ports, ranges, protocols, priorities, both families) come, change, go, and come back to their old places; after each step
// random packets must meet the same rule in both.
#include "pfkey/spd.hpp"

#include <algorithm>
#include <array>
#include <rapidcheck.h>
#include <vector>

using namespace latchkey;

namespace {

class Model {
public:
    void insert(const Policy& policy)
    {
        const auto at =
            std::ranges::upper_bound(rules_, policy.priority, {}, [](const Policy* p) { return p->priority; });
        rules_.insert(at, &policy);
    }

    void erase(const Policy& policy) { std::erase(rules_, &policy); }

    // Of the same priority it stays where it was, else it goes behind its new equals.
    void replace(const Policy* old, std::uint32_t old_priority, const Policy& policy)
    {
        const auto at = std::ranges::find(rules_, old);
        if (old_priority == policy.priority) {
            *at = &policy;
            return;
        }
        rules_.erase(at);
        insert(policy);
    }

    const Policy* lookup(const Flow& flow) const
    {
        for (const Policy* p : rules_) {
            const auto& s = p->selector;
            const bool ports =
                s.source_port.contains(flow.source_port) && s.destination_port.contains(flow.destination_port);
            const bool protocol = s.protocol == ip_proto::any || s.protocol == flow.protocol;
            const bool no_port_named = s.source_port.any() && s.destination_port.any();
            if (s.source.contains(flow.source) && s.destination.contains(flow.destination) && protocol &&
                (no_port_named || (flow.has_ports && ports)))
                return p;
        }
        return nullptr;
    }

    const std::vector<const Policy*>& rules() const { return rules_; }

private:
    std::vector<const Policy*> rules_;
};

// Few bits vary, so that rules overlap and packets hit.
Address random_address(bool v6)
{
    const auto bits = *rc::gen::inRange<unsigned>(0, 16);
    const auto high = static_cast<std::uint8_t>(bits >> 2 << 6), low = static_cast<std::uint8_t>(bits & 3);
    if (!v6)
        return Address::v4(10, high, 0, low);
    std::array<std::uint8_t, 16> bytes{0xfd, high};
    bytes[8] = high;
    bytes[15] = low;
    return Address::v6(bytes);
}

Prefix random_prefix(bool v6)
{
    const Address address = random_address(v6);
    const auto length = v6 ? *rc::gen::element<unsigned>(0, 8, 10, 64, 66, 127, 128)
                           : *rc::gen::element<unsigned>(0, 8, 9, 10, 30, 31, 32);
    return {address.masked(length), static_cast<std::uint8_t>(length)};
}

PortRange random_ports()
{
    if (*rc::gen::inRange(0, 2) == 0)
        return {};
    const auto a = *rc::gen::element<std::uint16_t>(0, 1, 79, 80, 81, 1024, 65534, 65535);
    const auto b = *rc::gen::element<std::uint16_t>(0, 1, 79, 80, 81, 1024, 65534, 65535);
    return {std::min(a, b), std::max(a, b)};
}

Policy random_policy(std::uint32_t id)
{
    const bool v6 = *rc::gen::arbitrary<bool>();
    Policy policy;
    policy.id = id;
    policy.priority = *rc::gen::element<std::uint32_t>(0, 1, 1, 1, 0xffffffff);
    policy.selector.source = random_prefix(v6);
    policy.selector.destination = random_prefix(v6);
    policy.selector.source_port = random_ports();
    policy.selector.destination_port = random_ports();
    policy.selector.protocol = *rc::gen::element(ip_proto::any, ip_proto::any, ip_proto::tcp, ip_proto::udp);
    return policy;
}

Flow random_flow()
{
    const bool v6 = *rc::gen::arbitrary<bool>();
    const auto port = rc::gen::element<std::uint16_t>(0, 1, 2, 79, 80, 1024, 40000, 65535);
    return {random_address(v6), random_address(v6), *port, *port,
            *rc::gen::element(ip_proto::tcp, ip_proto::udp, ip_proto::icmp), *rc::gen::inRange(0, 4) != 0};
}

constexpr std::array directions{Direction::in, Direction::out, Direction::fwd};

class Run {
public:
    void step()
    {
        const int action = *rc::gen::inRange(0, 12);
        Model& model = models_[*rc::gen::inRange<std::size_t>(0, directions.size())];
        if (action < 6 || model.rules().empty()) {
            Policy policy = random_policy(++id_);
            policy.direction = directions[static_cast<std::size_t>(&model - models_.data())];
            model.insert(spd_.insert(std::move(policy)));
            return;
        }
        const Policy* victim = model.rules()[*rc::gen::inRange<std::size_t>(0, model.rules().size())];
        if (action < 8) {
            model.erase(*victim);
            spd_.erase(*victim);
        } else if (action < 10) {
            replace(model, *victim);
        } else {
            take_and_put_back();
        }
    }

    void check() const
    {
        std::size_t size = 0;
        for (std::size_t i = 0; i < directions.size(); ++i) {
            size += models_[i].rules().size();
            RC_ASSERT(spd_.size(directions[i]) == models_[i].rules().size());
        }
        RC_ASSERT(spd_.size() == size);
        for (int i = 0; i < 8; ++i) {
            const Flow flow = random_flow();
            for (std::size_t d = 0; d < directions.size(); ++d)
                RC_ASSERT(spd_.lookup(directions[d], flow) == models_[d].lookup(flow));
        }
    }

    void check_all() const
    {
        Spd::Cursor cursor;
        for (const auto& model : models_)
            for (const Policy* rule : model.rules()) {
                RC_ASSERT(spd_.find(rule->id) == rule);
                RC_ASSERT(spd_.find(rule->direction, rule->selector)->selector == rule->selector);
                RC_ASSERT(spd_.next(cursor) == rule);
            }
        RC_ASSERT(spd_.next(cursor) == nullptr);
    }

private:
    void replace(Model& model, const Policy& old)
    {
        const std::uint32_t priority = old.priority;
        Policy with = old;
        with.priority = *rc::gen::elementOf(std::vector<std::uint32_t>{priority, 0, 1, 2});
        const Policy& now = spd_.replace(old, std::move(with));
        model.replace(&old, priority, now);
    }

    // Some rules leave and return in reverse order, at their old addresses: nothing has changed.
    void take_and_put_back()
    {
        std::vector<Spd::Taken> taken;
        const int count = *rc::gen::inRange(1, 5);
        for (int i = 0; i < count && spd_.size() != 0; ++i) {
            Spd::Cursor cursor;
            const Policy* policy = spd_.next(cursor);
            for (auto skip = *rc::gen::inRange<std::size_t>(0, spd_.size()); skip != 0; --skip)
                policy = spd_.next(cursor);
            taken.push_back(spd_.take(*policy));
        }
        for (; !taken.empty(); taken.pop_back())
            spd_.put_back(std::move(taken.back()));
    }

    Spd spd_;
    std::array<Model, directions.size()> models_;
    std::uint32_t id_ = 0;
};

void order_agrees_with_a_list()
{
    Run run;
    const int steps = *rc::gen::inRange(1, 60);
    for (int step = 0; step < steps; ++step) {
        run.step();
        run.check();
    }
    run.check_all();
}

}  // namespace

int main()
{
    return rc::check("the SPD finds what a walk of the list finds", order_agrees_with_a_list) ? 0 : 1;
}
