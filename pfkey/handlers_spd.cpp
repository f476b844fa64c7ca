// SPDX-License-Identifier: BSD-2-Clause
// The SPD messages of KAME: one handler each.
#include "pfkey/engine_impl.hpp"
#include "pfkey/sa_rules.hpp"

namespace latchkey {

Result<Selector> selector_of(const Message& m)
{
    if (auto checked = check_addresses(*m.source, *m.destination); !checked)
        return std::unexpected(checked.error());
    if (m.security_context)
        return fail(Errc::unsupported, "security labels are not offered");
    const auto prefix = [](const AddressExt& a) {
        return Prefix{a.endpoint.address.masked(a.prefix_length), a.prefix_length};
    };
    const auto ports = [](const AddressExt& a) {
        const std::uint16_t port = a.endpoint.port;
        return port == IPSEC_PORT_ANY ? PortRange{} : PortRange{port, port};
    };
    // Linux' clients say 0 for any protocol, KAME's 255.
    const std::uint8_t protocol = m.source->protocol == 0 ? ip_proto::any : m.source->protocol;
    return Selector{prefix(*m.source), prefix(*m.destination), ports(*m.source), ports(*m.destination), protocol};
}

Result<Direction> direction_of(const PolicyExt& policy)
{
    switch (policy.direction) {
    case IPSEC_DIR_INBOUND: return Direction::in;
    case IPSEC_DIR_OUTBOUND: return Direction::out;
    case IPSEC_DIR_FWD: return Direction::fwd;
    default: return fail(Errc::bad_value, "the policy's direction is none of in, out, fwd");
    }
}

namespace {

constexpr std::size_t max_requests = 16;   // transforms per packet; the message could carry thousands

Result<Action> action_of(const PolicyExt& policy)
{
    switch (policy.type) {
    case IPSEC_POLICY_DISCARD: return Action::discard;
    case IPSEC_POLICY_NONE: return Action::none;
    case IPSEC_POLICY_IPSEC: return Action::ipsec;
    case IPSEC_POLICY_ENTRUST:
    case IPSEC_POLICY_BYPASS: return fail(Errc::bad_value, "entrust and bypass are for sockets, not for the SPD");
    default: return fail(Errc::bad_value, "the policy's type is none of discard, none, ipsec");
    }
}

Result<void> check_request(Request& request)
{
    if (!protocol_is_transform(request.protocol))
        return fail(Errc::bad_protocol, "a request's protocol is none of esp, ah, ipcomp");
    switch (request.mode) {
    case Mode::any: request.mode = Mode::transport; break;   // as Linux
    case Mode::transport: break;
    case Mode::tunnel:
        if (request.tunnel_source.family() == Family::none ||
            request.tunnel_source.family() != request.tunnel_destination.family())
            return fail(Errc::bad_value, "a tunnel needs two addresses of one family");
        break;
    default: return fail(Errc::bad_value, "a request's mode is neither transport nor tunnel");
    }
    if (request.level > Level::unique)
        return fail(Errc::bad_value, "a request's level is none of default, use, require, unique");
    return {};
}

Result<std::vector<Request>> requests_of(const PolicyExt& policy)
{
    if (policy.requests.empty())
        return fail(Errc::bad_value, "an ipsec policy needs at least one request");
    if (policy.requests.size() > max_requests)
        return fail(Errc::no_memory, "a policy has more than 16 requests");
    auto requests = policy.requests;
    for (auto& request : requests)
        if (auto checked = check_request(request); !checked)
            return std::unexpected(checked.error());
    return requests;
}

// index_only: the requests come later, from a key manager (X_SPDSETIDX); until then nothing may pass in clear.
Result<Policy> build_policy(const Message& m, bool index_only, Time now)
{
    Policy policy;
    const auto direction = direction_of(*m.policy);
    if (!direction)
        return std::unexpected(direction.error());
    const auto action = action_of(*m.policy);
    if (!action)
        return std::unexpected(action.error());
    auto selector = selector_of(m);
    if (!selector)
        return std::unexpected(selector.error());
    policy.direction = *direction;
    policy.action = *action;
    policy.selector = *selector;
    policy.priority = m.policy->priority;
    policy.created = now;
    if (m.hard) {
        policy.lifetime = m.hard->addtime;
        policy.validtime = m.hard->usetime;
    }
    if (policy.action != Action::ipsec)
        return policy;
    if (index_only) {
        policy.action = Action::discard;
        return policy;
    }
    auto requests = requests_of(*m.policy);
    if (!requests)
        return std::unexpected(requests.error());
    policy.requests = std::move(*requests);
    return policy;
}

// The same as the request, with the policy's id.
void echo_policy(const Message& from, const Policy& policy, Message& reply)
{
    reply.source = from.source;
    reply.destination = from.destination;
    reply.hard = from.hard;
    reply.policy = from.policy;
    reply.policy->id = policy.id;
    reply.policy->requests = policy.requests;   // with the reqids that the host chose
}

}  // namespace

Result<void> Engine::Impl::spd_add(const Call& call, Message& reply)
{
    auto policy = build_policy(call.message, call.message.type == SADB_X_SPDSETIDX, call.now);
    if (!policy)
        return std::unexpected(policy.error());
    const Policy* same = spd.find(policy->direction, policy->selector);
    if (same != nullptr && call.message.type != SADB_X_SPDUPDATE)
        return fail(Errc::exists, "a policy with this direction and selector exists");
    if (same == nullptr && spd.size() >= limits.max_policies)
        return fail(Errc::no_memory, "the SPD is full");
    echo_policy(call.message, publish(std::move(*policy), same), reply);
    return {};
}

// An update keeps the id, and the place among rules of the same priority: key managers refer to both.
const Policy& Engine::Impl::publish(Policy policy, const Policy* replaces)
{
    for (auto& request : policy.requests)
        if (request.level == Level::unique && request.reqid == 0)
            request.reqid = next_reqid();
    ++generation;
    policy.id = replaces != nullptr ? replaces->id : next_policy_id(policy.direction);
    policy.born = replaces != nullptr ? replaces->born : spd.last_order() + 1;
    Spd::Taken replaced;
    if (replaces != nullptr)
        leave(*replaces);
    const Policy& published = replaces != nullptr ? spd.replace(*replaces, std::move(policy), replaced)
                                                  : spd.insert(std::move(policy));
    enter(published);
    if (journal != nullptr && !replaced.empty())
        journal->changes.emplace_back(Journal::PolicyRemoved{std::move(replaced)});
    if (journal != nullptr)
        journal->changes.emplace_back(Journal::PolicyAdded{&published});
    return published;
}

void Engine::Impl::enter(const Policy& policy)
{
    for (const auto& request : policy.requests)
        if (request.reqid > IPSEC_MANUAL_REQID_MAX)
            ++unique_reqids[request.reqid];
    arm(policy);
}

void Engine::Impl::leave(const Policy& policy)
{
    for (const auto& request : policy.requests)
        if (request.reqid > IPSEC_MANUAL_REQID_MAX)
            if (const auto found = unique_reqids.find(request.reqid); --found->second == 0)
                unique_reqids.erase(found);
    if (const auto timer = policy_timers.find(policy.id); timer != policy_timers.end()) {
        deadlines.cancel(timer->second);
        policy_timers.erase(timer);
    }
}

// id modulo 8 is the direction as Linux numbers it (0 in, 1 out, 2 fwd): ipsec-tools takes 3 and above for the policy
// of a socket.
std::uint32_t Engine::Impl::next_policy_id(Direction direction)
{
    std::uint32_t id = 0;
    do {
        last_policy = last_policy == 0xffff'ffff >> 3 ? 1 : last_policy + 1;
        id = last_policy << 3 | (static_cast<std::uint32_t>(direction) - IPSEC_DIR_INBOUND);
    } while (spd.find(id) != nullptr);
    return id;
}

// One that no policy names, whether the host chose it or a key manager did (those may name any, as on Linux).
std::uint32_t Engine::Impl::next_reqid()
{
    do
        last_reqid = last_reqid == 0xffff'ffff ? IPSEC_MANUAL_REQID_MAX + 1 : last_reqid + 1;
    while (unique_reqids.contains(last_reqid));
    return last_reqid;
}

Result<void> Engine::Impl::spd_delete(const Call& call, Message& reply)
{
    const auto direction = direction_of(*call.message.policy);
    if (!direction)
        return std::unexpected(direction.error());
    const auto selector = selector_of(call.message);
    if (!selector)
        return std::unexpected(selector.error());
    const Policy* policy = spd.find(*direction, *selector);
    if (policy == nullptr)
        return fail(Errc::not_found, "no policy has this direction and selector", ENOENT);
    echo_policy(call.message, *policy, reply);
    erase(*policy);
    return {};
}

Result<void> Engine::Impl::spd_delete_id(const Call& call, Message& reply)
{
    const Policy* policy = spd.find(call.message.policy->id);
    if (policy == nullptr)
        return fail(Errc::not_found, "no policy has this id", ENOENT);
    reply.policy = PolicyExt{static_cast<std::uint16_t>(policy->action), static_cast<std::uint8_t>(policy->direction),
                             policy->id, policy->priority, {}};
    erase(*policy);
    return {};
}

Result<void> Engine::Impl::spd_get(const Call& call, Message& reply)
{
    const Policy* policy = spd.find(call.message.policy->id);
    if (policy == nullptr)
        return fail(Errc::not_found, "no policy has this id", ENOENT);
    describe(*policy, reply);
    return {};
}

Result<void> Engine::Impl::spd_dump(const Call& call, Message& reply)
{
    Dump dump;
    dump.head.type = reply.type;
    dump.head.seq = call.message.seq;
    dump.head.pid = call.message.pid;
    dump.end = spd.last_order();
    dump.left = spd.size();
    reply.type = SADB_RESERVED;
    return start_dump(call.from, std::move(dump));
}

Result<void> Engine::Impl::spd_flush(const Call& call, Message&)
{
    if (call.present != 0)
        return fail(Errc::bad_value, "X_SPDFLUSH takes no extensions");
    clear_spd();
    return {};
}

void Engine::Impl::erase(const Policy& policy)
{
    ++generation;
    leave(policy);
    if (journal != nullptr)
        journal->changes.emplace_back(Journal::PolicyRemoved{spd.take(policy)});
    else
        spd.erase(policy);
}

}  // namespace latchkey
