// SPDX-License-Identifier: BSD-2-Clause
// Any message that can be built survives the way out and in; any bytes are refused or read to a fixed point.
#include "pfkey/policy_string.hpp"
#include "pfkey/tables.hpp"

#include <rapidcheck.h>

using namespace latchkey;

namespace {

// Owns what the views of a generated message point to.
struct Sample {
    std::vector<std::vector<std::uint8_t>> bytes;
    std::vector<std::string> texts;
    Message message;
};

template <class T> T number()
{
    return *rc::gen::arbitrary<T>();
}

std::size_t up_to(std::size_t max)
{
    return *rc::gen::inRange<std::size_t>(0, max + 1);
}

Address any_address(Family family)
{
    const auto raw = *rc::gen::container<std::array<std::uint8_t, 16>>(rc::gen::arbitrary<std::uint8_t>());
    return family == Family::v4 ? Address::v4(std::span(raw).first<4>()) : Address::v6(raw);
}

Family any_family()
{
    return *rc::gen::element(Family::v4, Family::v6);
}

AddressExt make(const std::optional<AddressExt>*, Sample&)
{
    AddressExt address{number<std::uint8_t>(), number<std::uint8_t>(), {}};
    const auto family = *rc::gen::element(Family::none, Family::v4, Family::v6);
    if (family != Family::none)
        address.endpoint = {any_address(family), number<std::uint16_t>(),
                            family == Family::v6 ? number<std::uint32_t>() : 0};
    return address;
}

SaExt make(const std::optional<SaExt>*, Sample&)
{
    return {number<std::uint32_t>(), number<std::uint8_t>(), number<std::uint8_t>(),
            number<std::uint8_t>(),  number<std::uint8_t>(), number<std::uint32_t>()};
}

Lifetime make(const std::optional<Lifetime>*, Sample&)
{
    return {number<std::uint32_t>(), number<std::uint64_t>(), number<std::uint64_t>(), number<std::uint64_t>()};
}

Bytes kept(Sample& sample, std::size_t size)
{
    return sample.bytes.emplace_back(
        *rc::gen::container<std::vector<std::uint8_t>>(size, rc::gen::arbitrary<std::uint8_t>()));
}

KeyExt make(const std::optional<KeyExt>*, Sample& sample)
{
    const auto bits = static_cast<std::uint16_t>(up_to(600));
    return {bits, kept(sample, (bits + 7u) / 8)};
}

std::string_view make(const std::optional<std::string_view>*, Sample& sample)
{
    const auto letter = rc::gen::inRange<int>(1, 256);
    std::string text(up_to(40), '\0');
    for (auto& c : text)
        c = static_cast<char>(*letter);
    return sample.texts.emplace_back(std::move(text));
}

IdentityExt make(const std::optional<IdentityExt>*, Sample& sample)
{
    return {number<std::uint16_t>(), number<std::uint64_t>(),
            make(static_cast<std::optional<std::string_view>*>(nullptr), sample)};
}

Bytes make(const std::optional<Bytes>*, Sample& sample)
{
    return kept(sample, 36);   // a size that every opaque extension allows
}

ProposalExt make(const std::optional<ProposalExt>*, Sample& sample)
{
    ProposalExt proposal{number<std::uint8_t>(), {}};
    for (auto n = up_to(4); n > 0; --n)
        proposal.combinations.push_back({number<std::uint8_t>(), number<std::uint8_t>(), number<std::uint16_t>(),
                                         number<std::uint16_t>(), number<std::uint16_t>(), number<std::uint16_t>(),
                                         number<std::uint16_t>(),
                                         make(static_cast<std::optional<Lifetime>*>(nullptr), sample),
                                         make(static_cast<std::optional<Lifetime>*>(nullptr), sample)});
    return proposal;
}

std::vector<SupportedAlgorithm> make(const std::optional<std::vector<SupportedAlgorithm>>*, Sample&)
{
    std::vector<SupportedAlgorithm> list;
    for (auto n = up_to(20); n > 0; --n)
        list.push_back(
            {number<std::uint8_t>(), number<std::uint8_t>(), number<std::uint16_t>(), number<std::uint16_t>()});
    return list;
}

SpiRangeExt make(const std::optional<SpiRangeExt>*, Sample&)
{
    return {number<std::uint32_t>(), number<std::uint32_t>()};
}

Sa2Ext make(const std::optional<Sa2Ext>*, Sample&)
{
    return {number<std::uint8_t>(), number<std::uint32_t>(), number<std::uint32_t>()};
}

Request any_request()
{
    Request r{number<std::uint8_t>(),
              static_cast<Mode>(number<std::uint8_t>()),
              static_cast<Level>(number<std::uint8_t>()),
              number<std::uint32_t>(),
              {},
              {}};
    if (number<bool>())
        return r;
    r.tunnel_source = any_address(any_family());   // the families may differ: that is for the engine to refuse
    r.tunnel_destination = any_address(any_family());
    r.tunnel_source_port = number<std::uint16_t>();
    r.tunnel_destination_port = number<std::uint16_t>();
    if (r.tunnel_source.is_v6())
        r.tunnel_source_scope = number<std::uint32_t>();
    if (r.tunnel_destination.is_v6())
        r.tunnel_destination_scope = number<std::uint32_t>();
    return r;
}

PolicyExt make(const std::optional<PolicyExt>*, Sample&)
{
    PolicyExt policy{
        number<std::uint16_t>(), number<std::uint8_t>(), number<std::uint32_t>(), number<std::uint32_t>(), {}};
    for (auto n = up_to(5); n > 0; --n)
        policy.requests.push_back(any_request());
    return policy;
}

template <std::unsigned_integral T> T make(const std::optional<T>*, Sample&)
{
    return number<T>();
}

void fill(Sample& sample)
{
    auto& m = sample.message;
    sample.bytes.reserve(extension_count);   // views into the elements must stay
    sample.texts.reserve(extension_count);
    m.type = *rc::gen::distinctFrom(rc::gen::arbitrary<std::uint8_t>(), std::uint8_t{SADB_X_PROMISC});
    m.error = number<std::uint8_t>();
    m.satype = number<std::uint8_t>();
    m.seq = number<std::uint32_t>();
    m.pid = number<std::uint32_t>();
    std::apply(
        [&](const auto&... row) {
            const auto maybe = [&](auto& slot) {
                if (number<bool>())
                    slot = make(&slot, sample);
            };
            (maybe(m.*row.member), ...);
        },
        extensions);
}

void survives_the_way_out_and_in()
{
    Sample sample;
    fill(sample);
    const auto bytes = sample.message.bytes();
    RC_ASSERT(bytes.size() == sample.message.size());
    const auto again = Message::parse(bytes);
    RC_ASSERT(again.has_value());
    RC_ASSERT(*again == sample.message);
}

void changed_byte_is_harmless()
{
    Sample sample;
    fill(sample);
    auto bytes = sample.message.bytes();
    for (auto n = up_to(3); n > 0; --n)
        bytes[up_to(bytes.size() - 1)] = number<std::uint8_t>();
    const auto changed = Message::parse(bytes);
    RC_CLASSIFY(changed.has_value());
    if (!changed)
        return;
    const auto normal = changed->bytes();
    const auto again = Message::parse(normal);
    RC_ASSERT(again.has_value());
    RC_ASSERT(*again == *changed);
    RC_ASSERT(again->bytes() == normal);
}

void text_reads_back()
{
    PolicyExt policy;
    policy.type = *rc::gen::inRange<std::uint16_t>(IPSEC_POLICY_DISCARD, IPSEC_POLICY_BYPASS + 1);
    policy.direction = *rc::gen::inRange<std::uint8_t>(IPSEC_DIR_INBOUND, IPSEC_DIR_FWD + 1);
    policy.priority = *rc::gen::positive<std::uint32_t>();
    for (auto n = up_to(4); n > 0; --n) {
        auto r = any_request();
        r.protocol = *rc::gen::element(ip_proto::esp, ip_proto::ah, ip_proto::ipcomp);
        r.level = static_cast<Level>(*rc::gen::inRange(0, 4));
        // "unique#N" is how a host shows an id of its own choice; it is not a way to ask for one.
        r.reqid = r.level == Level::unique ? *rc::gen::inRange<std::uint32_t>(0, IPSEC_MANUAL_REQID_MAX + 1) : 0;
        r.tunnel_source_scope = r.tunnel_destination_scope = 0;
        if (r.tunnel_source.family() != r.tunnel_destination.family())
            r.tunnel_destination = r.tunnel_source;
        r.mode = r.tunnel_source.family() == Family::none ? Mode::transport
                                                          : *rc::gen::element(Mode::transport, Mode::tunnel);
        policy.requests.push_back(r);
    }
    const auto again = parse_policy_string(policy_text(policy, "\n\t", true));
    RC_ASSERT(again.has_value());
    RC_ASSERT(*again == policy);
}

}  // namespace

int main()
{
    bool ok = true;
    ok &= rc::check("any message survives the way out and in", survives_the_way_out_and_in);
    ok &= rc::check("a changed byte is refused, or read to something that is stable", changed_byte_is_harmless);
    ok &= rc::check("the text of any policy that a string can say reads back as the same policy", text_reads_back);
    return ok ? 0 : 1;
}
