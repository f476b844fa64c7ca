// SPDX-License-Identifier: BSD-2-Clause
// The text side of a host: statistics, addresses, routes, links and tunables for the `latchkey` tool.
#include "stack/host.hpp"

#include "lwip/stats.h"

#include <algorithm>
#include <charconv>

namespace latchkey {

namespace {

// Words of a request line; quotes and escapes do not exist in addresses and names.
std::vector<std::string_view> words(std::string_view text)
{
    std::vector<std::string_view> out;
    while (!text.empty()) {
        const auto start = text.find_first_not_of(" \t\n");
        if (start == text.npos)
            break;
        const auto end = std::min(text.find_first_of(" \t\n", start), text.size());
        out.push_back(text.substr(start, end - start));
        text.remove_prefix(end);
    }
    return out;
}

struct Clauses {
    std::string_view head, via, dev;
    bool sound = true;
};

// "HEAD [via X] [dev Y]" in any order after the head.
Clauses clauses(std::string_view text)
{
    const auto w = words(text);
    Clauses out;
    if (w.empty() || w.size() % 2 == 0) {
        out.sound = false;
        return out;
    }
    out.head = w[0];
    for (std::size_t i = 1; i + 1 < w.size(); i += 2) {
        if (w[i] == "via" && out.via.empty())
            out.via = w[i + 1];
        else if (w[i] == "dev" && out.dev.empty())
            out.dev = w[i + 1];
        else
            out.sound = false;
    }
    return out;
}

// A change has nothing to say but that it was made, or why not.
Result<std::string> plain(const Result<>& done)
{
    if (!done)
        return std::unexpected(done.error());
    return std::string();
}

struct Row {
    std::string name;
    std::uint64_t value;
    std::string_view text;
};

}  // namespace

std::string Host::stat(int style)
{
    const auto& c = walk_->counters;
    const auto& s = sockets_->counters();
    std::vector<Row> rows{
        {"out_clear", c.out_clear, "datagrams sent without protection"},
        {"out_protected", c.out_protected, "datagrams sent protected"},
        {"out_held", c.out_held, "datagrams that waited for an SA"},
        {"in_clear", c.in_clear, "clear datagrams delivered"},
        {"in_protected", c.in_protected, "transforms taken off"},
        {"forwarded", c.forwarded, "datagrams forwarded"},
        {"flow_hits", c.flow_hits, "policy decisions found in the flow cache"},
        {"flow_misses", c.flow_misses, "policy decisions looked up"},
        {"sas", engine_->sad().size(), "security associations"},
        {"policies", engine_->spd().size(), "security policies"},
        {"held", choke_->held(), "datagrams waiting for an SA"},
        {"buffer_bytes", pool_.in_use(), "bytes of packet buffers in use"},
        {"sockets", sockets_->size(), "sockets"},
        {"sockets_opened", s.opened, "sockets opened"},
        {"datagrams_received", s.datagrams_received, "datagrams put into socket buffers"},
        {"datagrams_dropped", s.datagrams_dropped, "datagrams dropped at full socket buffers"},
        {"tcp_segments_out", lwip_stats.tcp.xmit, "TCP segments sent"},
        {"tcp_segments_in", lwip_stats.tcp.recv, "TCP segments received"},
    };
    for (const auto& interface : interfaces_) {
        rows.push_back({interface->name + "_frames_in", interface->frames_in, "frames received"});
        rows.push_back({interface->name + "_frames_out", interface->frames_out, "frames sent"});
        rows.push_back({interface->name + "_bytes_in", interface->bytes_in, "bytes received"});
        rows.push_back({interface->name + "_bytes_out", interface->bytes_out, "bytes sent"});
    }
    for (const auto& row : drops)
        if (row.id != Drop::none)
            rows.push_back({"drop_" + std::string(row.name), c.drops[static_cast<std::size_t>(row.id)], row.text});

    std::string out;
    for (const auto& row : rows) {
        if (style == 1)
            out += row.name + " " + std::to_string(row.value) + "\n";
        else if (row.value != 0)
            out += std::string(row.value < 1000000000 ? 10 - std::to_string(row.value).size() : 0, ' ') +
                   std::to_string(row.value) + " " + std::string(row.text) + " (" + row.name + ")\n";
    }
    return out;
}

Result<std::string> Host::address(int verb, std::string_view text)
{
    if (verb == 0) {
        std::string out;
        for (const auto& interface : interfaces_)
            for (const auto& address : interface->addresses)
                out += address.text() + " dev " + interface->name + "\n";
        return out;
    }
    const auto c = clauses(text);
    const auto prefix = Prefix::parse(c.head);
    if (!c.sound || !c.via.empty() || !prefix)
        return fail(Errc::bad_value, "expected ADDRESS[/LENGTH] [dev INTERFACE]");
    const std::string dev(c.dev);
    if (verb == 2)
        return plain(remove_address(*prefix, dev));
    Interface* to = find_interface(dev.empty() ? "net0" : dev);
    if (to == nullptr)
        return fail(Errc::not_found, "there is no interface of this name", ENODEV);
    return plain(add_address(*to, *prefix));
}

Result<std::string> Host::route(int verb, std::string_view text)
{
    if (verb == 0) {
        std::string out;
        for (const auto& route : routes_.list()) {
            out += route.destination.length == 0 ? (route.destination.address.is_v4() ? "default" : "default6")
                                                 : route.destination.text();
            if (route.gateway.family() != Family::none)
                out += " via " + route.gateway.text();
            for (const auto& interface : interfaces_)
                if (interface->index == route.interface)
                    out += " dev " + interface->name;
            out += route.connected ? " connected\n" : "\n";
        }
        return out;
    }
    const auto c = clauses(text);
    const auto gateway = c.via.empty() ? std::optional(Address{}) : Address::parse(c.via);
    std::optional<Prefix> prefix;
    if (c.head == "default6" || (c.head == "default" && gateway && gateway->is_v6()))
        prefix = Prefix{Address::any(Family::v6), 0};
    else if (c.head == "default")
        prefix = Prefix{Address::any(Family::v4), 0};
    else
        prefix = Prefix::parse(c.head);
    if (!c.sound || !prefix || !gateway)
        return fail(Errc::bad_value, "expected PREFIX|default [via ADDRESS] [dev INTERFACE]");
    if (verb == 1)
        return plain(add_route({*prefix, *gateway, std::string(c.dev)}));
    const auto removed = routes_.remove(*prefix, false);
    if (!removed)
        return std::unexpected(removed.error());
    changed("route delete " + prefix->text());
    return std::string();
}

Result<std::string> Host::link(int verb, std::string_view text)
{
    if (verb == 0) {
        std::string out;
        for (const auto& interface : interfaces_) {
            if (interface->alias)
                continue;
            std::array<char, 18> mac{};
            const auto* m = interface->lwip.hwaddr;
            std::snprintf(mac.data(), mac.size(), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
            out += interface->name + (interface->up() ? " up" : " down") + " mtu " + std::to_string(interface->mtu());
            out += interface->loopback ? " loopback\n" : " mac " + std::string(mac.data()) + "\n";
        }
        return out;
    }
    const auto w = words(text);
    Interface* interface = w.empty() ? nullptr : find_interface(w[0]);
    if (interface == nullptr)
        return fail(Errc::not_found, "there is no interface of this name", ENODEV);
    unsigned mtu = 0;
    if (w.size() == 2 && (w[1] == "up" || w[1] == "down")) {
        for (auto& same_wire : interfaces_)
            if (same_wire->loopback == interface->loopback && same_wire->port == interface->port)
                (w[1] == "up" ? netif_set_up : netif_set_down)(&same_wire->lwip);
    } else if (w.size() == 3 && w[1] == "mtu" && !interface->loopback &&
               std::from_chars(w[2].data(), w[2].data() + w[2].size(), mtu).ptr == w[2].data() + w[2].size()) {
        const bool has_v6 = std::any_of(interface->addresses.begin(), interface->addresses.end(),
                                        [](const Prefix& p) { return p.address.is_v6(); });
        if (mtu < (has_v6 ? 1280u : 576u) || mtu > 9216)
            return fail(Errc::bad_value, has_v6 ? "an MTU here is 1280 (IPv6) to 9216" : "an MTU is 576 to 9216");
        for (auto& same_wire : interfaces_)
            if (!same_wire->loopback && same_wire->port == interface->port)
                same_wire->lwip.mtu = static_cast<u16_t>(mtu);
    } else {
        return fail(Errc::bad_value, "expected INTERFACE up|down, or INTERFACE mtu NUMBER");
    }
    changed("link " + std::string(text));
    return std::string();
}

// ---- tunables -----------------------------------------------------------------------------------------------

namespace {

std::string description(const TunableRow& row, std::string_view asked)
{
    const auto number = [](std::int64_t value) { return "\t" + std::to_string(value); };
    return std::string(asked) + "\t" + std::string(type_name(row.type)) + number(row.standard) + number(row.min) +
           number(row.max) + "\t" + std::string(row.help) + "\n";
}

Result<std::string> describe(std::string_view name)
{
    if (name.empty()) {
        std::string out;
        for (const auto& row : tunables)
            out += description(row, row.name);
        return out;
    }
    const auto id = find_tunable(name);
    if (!id)
        return fail(Errc::not_found, "no tunable has this name", ENOENT);
    return description(tunables[static_cast<std::size_t>(*id)], name);
}

}  // namespace

Result<std::string> Host::sysctl(int verb, std::string_view text)
{
    switch (verb) {
    case 0: {
        std::string out;
        for (const auto& row : tunables)
            out += std::string(row.name) + "=" + std::to_string(engine_->tunables().get(row.id)) + "\n";
        return out;
    }
    case 1: {
        const auto value = engine_->tunables().get(text);
        if (!value)
            return std::unexpected(value.error());
        return std::to_string(*value);
    }
    case 2: {
        const auto equals = text.find('=');
        if (equals == text.npos)
            return fail(Errc::bad_value, "expected NAME=VALUE");
        return plain(set_tunable(text.substr(0, equals), text.substr(equals + 1)));
    }
    case 3: return describe(text);
    default: return fail(Errc::unsupported, "expected verb 0 to 3: list, get, set, describe");
    }
}

}  // namespace latchkey
