// SPDX-License-Identifier: BSD-2-Clause
#include "stack/host.hpp"

#include "stack/choke_lwip.hpp"
#include "stack/lwip_address.hpp"

#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/init.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"

#include <algorithm>

namespace latchkey {

namespace {

constexpr unsigned packets_per_step = 256;
constexpr unsigned log_lines_per_second = 20;
constexpr std::size_t smallest_mtu = 576;   // every IPv4 host must take it (RFC 791); IPv6 needs 1280 and is left out below

err_t transmit_frame(netif* n, pbuf* p)
{
    auto& interface = *static_cast<Interface*>(n->state);
    ++interface.frames_out;
    interface.bytes_out += p->tot_len;
    if (p->next == nullptr) {
        interface.transmit({static_cast<const std::uint8_t*>(p->payload), p->len});
        return ERR_OK;
    }
    std::vector<std::uint8_t> whole(p->tot_len);   // ARP and ND queues may chain; rare
    pbuf_copy_partial(p, whole.data(), p->tot_len, 0);
    interface.transmit(whole);
    return ERR_OK;
}

err_t start_ethernet(netif* n)
{
    n->name[0] = 'e';
    n->name[1] = 'n';
    n->hwaddr_len = 6;
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_IGMP | NETIF_FLAG_MLD6;
    n->linkoutput = transmit_frame;
    take_over_output(*n);
    return ERR_OK;
}

err_t start_loopback(netif* n)
{
    n->name[0] = 'l';
    n->name[1] = 'o';
    n->mtu = 0xffff;
    take_over_output(*n);
    return ERR_OK;
}

}  // namespace

std::expected<std::unique_ptr<Host>, std::string> Host::create(const HostConfig& config, Rng& rng, Time now)
{
    std::unique_ptr<Host> host(new Host(config, rng, now));
    if (auto wrong = host->configure(); !wrong.empty())
        return std::unexpected(std::move(wrong));
    return host;
}

Host::Host(const HostConfig& config, Rng& rng, Time now) : config_(config), rng_(rng), pool_(config.packet_bytes)
{
    engine_ = std::make_unique<Engine>(rng, config.wall_offset, config.limits);
    cipher_ = make_openssl_backend(rng);
    engine_->set_available(cipher_->available());
    walk_ = std::make_unique<Walk>(*engine_, *cipher_, pool_, rng);
    choke_ = std::make_unique<Choke>(*engine_, *walk_, pool_, routes_, index_, rng, interfaces_);
    choke_->now = now;
    choke_->forwarding = config.forwarding;
    activate_choke(choke_.get(), &rng);
    lwip_init();
    engine_->on_acquire_done = [this](std::uint32_t acquire) { choke_->acquire_done(acquire); };
    sockets_ = std::make_unique<Sockets>(index_, *engine_, config.owner);
    sockets_->last_drop = [this] { return choke_->take_last_drop(); };
    sockets_->owns_address = [this](const Address& a) {
        return std::any_of(interfaces_.begin(), interfaces_.end(), [&](const auto& i) { return i->owns(a); });
    };
    engine_->tunables().computed = [this](Tunable id) { return computed(id); };
    apply_tunables();
}

Host::~Host()
{
    sockets_.reset();
    for (auto& interface : interfaces_)
        netif_remove(&interface->lwip);
    activate_choke(nullptr, nullptr);
}

std::string Host::configure()
{
    add_loopback();
    for (unsigned port = 0; port < config_.interfaces.size(); ++port) {
        const auto& wanted = config_.interfaces[port];
        if (wanted.mtu < smallest_mtu || wanted.mtu > 9216)
            return "an MTU is 576 to 9216 bytes, not " + std::to_string(wanted.mtu);
        auto& interface = add_interface(port, &wanted);
        for (const auto& address : wanted.addresses)
            if (const auto done = add_address(interface, address); !done)
                return address.text() + ": " + std::string(done.error().reason);
    }
    for (const auto& route : config_.routes)
        if (const auto done = add_route(route); !done)
            return "route " + route.destination.text() + ": " + std::string(done.error().reason);
    return {};
}

void Host::add_loopback()
{
    auto& lo = *interfaces_.emplace_back(std::make_unique<Interface>());
    lo.name = "lo";
    lo.loopback = true;
    lo.transmit = [](Bytes) {};
    const auto address = to_lwip4(Address::v4(127, 0, 0, 1));
    const auto mask = to_lwip4(Address::v4(255, 0, 0, 0));
    const ip4_addr_t none{};
    netif_add(&lo.lwip, &address, &mask, &none, &lo, start_loopback, netif_input);
    lo.index = netif_get_index(&lo.lwip);
    const auto one = *Address::parse("::1");
    const auto six = to_lwip(one);
    netif_ip6_addr_set(&lo.lwip, 0, ip_2_ip6(&six));
    netif_ip6_addr_set_state(&lo.lwip, 0, IP6_ADDR_PREFERRED);
    netif_set_link_up(&lo.lwip);
    netif_set_up(&lo.lwip);
    lo.addresses = {{Address::v4(127, 0, 0, 1), 8}, {one, 128}};
    (void)routes_.add({{Address::v4(127, 0, 0, 0), 8}, {}, lo.index, true});
    (void)routes_.add({{one, 128}, {}, lo.index, true});
}

// An alias (config null) carries one more IPv4 address of a wire: an lwIP netif has room for one.
Interface& Host::add_interface(unsigned port, const InterfaceConfig* config)
{
    auto& interface = *interfaces_.emplace_back(std::make_unique<Interface>());
    interface.port = port;
    interface.alias = config == nullptr;
    interface.transmit = [this, port](Bytes frame) {
        if (frame_out)
            frame_out(port, frame);
    };
    netif_add_noaddr(&interface.lwip, &interface, start_ethernet, netif_input);
    interface.index = netif_get_index(&interface.lwip);
    interface.name = "net" + std::to_string(port);
    MacAddress mac{};
    if (config != nullptr) {
        if (config->mac) {
            mac = *config->mac;
        } else {
            rng_.fill(mac);
            mac[0] = static_cast<std::uint8_t>((mac[0] & 0xfc) | 0x02);   // locally administered, not a group
        }
        interface.lwip.mtu = static_cast<u16_t>(config->mtu);
    } else {
        const auto* primary = find_interface(interface.name);
        std::copy_n(primary->lwip.hwaddr, mac.size(), mac.begin());
        interface.lwip.mtu = primary->lwip.mtu;
        interface.name += ":" + std::to_string(interface.index);
    }
    std::copy(mac.begin(), mac.end(), interface.lwip.hwaddr);
    netif_set_link_up(&interface.lwip);
    netif_set_up(&interface.lwip);
    if (config != nullptr && config->mtu >= 1280) {   // RFC 8200 §5: no IPv6 on a smaller link
        netif_create_ip6_linklocal_address(&interface.lwip, 1);
        netif_ip6_addr_set_state(&interface.lwip, 0, IP6_ADDR_PREFERRED);
        interface.addresses.push_back({from_lwip(*netif_ip6_addr(&interface.lwip, 0)), 64});
    }
    return interface;
}

Interface* Host::find_interface(std::string_view name)
{
    for (auto& interface : interfaces_)
        if (interface->name == name)
            return interface.get();
    return nullptr;
}

Result<> Host::add_address(Interface& to, const Prefix& address)
{
    for (const auto& interface : interfaces_)
        if (interface->owns(address.address))
            return fail(Errc::exists, "the host has this address already");
    if (address.address.is_unspecified() || address.address.is_multicast())
        return fail(Errc::bad_value, "not an address that a host can have");

    Interface* holder = &to;
    if (address.address.is_v4()) {
        const auto has_v4 = [](const Interface& i) {
            return std::any_of(i.addresses.begin(), i.addresses.end(), [](const Prefix& p) { return p.address.is_v4(); });
        };
        if (has_v4(to))
            holder = &add_interface(to.port, nullptr);
        const auto ip = to_lwip4(address.address);
        const auto mask = to_lwip4([&] {
            const std::array<std::uint8_t, 4> ones{255, 255, 255, 255};
            return Address::v4(ones).masked(address.length);
        }());
        const ip4_addr_t none{};
        netif_set_addr(&holder->lwip, &ip, &mask, &none);
    } else {
        if (to.mtu() < 1280)
            return fail(Errc::bad_value, "IPv6 needs a link with an MTU of 1280 bytes or more");
        const auto ip = to_lwip6(address.address, address.address.is_link_local() ? to.index : 0);
        s8_t slot = -1;
        if (netif_add_ip6_address(&to.lwip, &ip, &slot) != ERR_OK || slot < 0)
            return fail(Errc::no_memory, "the interface has no room for another IPv6 address");
        netif_ip6_addr_set_state(&to.lwip, slot, IP6_ADDR_PREFERRED);
    }
    holder->addresses.push_back(address);
    (void)routes_.add({address, {}, holder->index, true});
    changed("address add " + address.text() + " dev " + holder->name);
    return {};
}

Result<> Host::remove_address(const Prefix& address, const std::string& name)
{
    for (auto at = interfaces_.begin(); at != interfaces_.end(); ++at) {
        auto& interface = **at;
        if (interface.loopback || (!name.empty() && interface.name != name))
            continue;
        const auto mine = std::find_if(interface.addresses.begin(), interface.addresses.end(),
                                       [&](const Prefix& p) { return p.address == address.address; });
        if (mine == interface.addresses.end())
            continue;
        const Prefix gone = *mine;
        interface.addresses.erase(mine);
        (void)routes_.remove(gone, true);
        for (const auto& other : interfaces_)   // an address of the same prefix keeps the prefix on link
            for (const auto& left : other->addresses)
                if (left.length == gone.length && gone.contains(left.address))
                    (void)routes_.add({left, {}, other->index, true});
        const std::string event = "address delete " + gone.text() + " dev " + interface.name;
        if (gone.address.is_v6()) {
            const auto ip = to_lwip6(gone.address, gone.address.is_link_local() ? interface.index : 0);
            if (const s8_t slot = netif_get_ip6_addr_match(&interface.lwip, &ip); slot >= 0)
                netif_ip6_addr_set_state(&interface.lwip, slot, IP6_ADDR_INVALID);
        } else if (interface.alias) {
            routes_.remove_interface(interface.index);
            choke_->forget(interface);
            netif_remove(&interface.lwip);
            interfaces_.erase(at);
        } else {
            const ip4_addr_t none{};
            netif_set_addr(&interface.lwip, &none, &none, &none);
        }
        changed(event);
        return {};
    }
    return fail(Errc::not_found, "the host does not have this address", 99 /* EADDRNOTAVAIL */);
}

Result<> Host::add_route(const RouteConfig& route)
{
    Interface* by = nullptr;
    if (!route.interface.empty()) {
        by = find_interface(route.interface);
        if (by == nullptr)
            return fail(Errc::not_found, "there is no interface of this name", 19 /* ENODEV */);
    } else if (route.gateway.family() != Family::none) {
        const Route* to_gateway = routes_.lookup(route.gateway);
        if (to_gateway == nullptr || to_gateway->gateway.family() != Family::none)
            return fail(Errc::bad_value, "the gateway is not on a link of this host", 101 /* ENETUNREACH */);
        for (auto& interface : interfaces_)
            if (interface->index == to_gateway->interface)
                by = interface.get();
    }
    if (by == nullptr)
        return fail(Errc::bad_value, "a route needs `via ADDRESS` or `dev INTERFACE`");
    if (auto added = routes_.add({route.destination, route.gateway, by->index, false}); !added)
        return added;
    changed("route add " + route.destination.text());
    return {};
}

void Host::changed(std::string_view event)
{
    nd6_clear_destination_cache();
    choke_->resize_segments();
    if (on_change)
        on_change(event);
}

// The engine owns the values and counts their changes as its generation.
void Host::apply_tunables()
{
    const auto& t = engine_->tunables();
    const auto on = [&](Tunable id) { return t.get(id) != 0; };
    const auto number = [&](Tunable id) { return static_cast<int>(t.get(id)); };
    const auto level = [&](Tunable id) { return static_cast<Level>(t.get(id)); };
    WalkSettings s;
    s.v4 = {on(Tunable::v4_enabled), !on(Tunable::v4_def_policy), on(Tunable::v4_strict),
            level(Tunable::v4_esp_trans_deflev), level(Tunable::v4_esp_net_deflev), level(Tunable::v4_ah_trans_deflev),
            level(Tunable::v4_ah_net_deflev), number(Tunable::v4_ecn), number(Tunable::v4_esp_randpad),
            on(Tunable::v4_test_replay), on(Tunable::v4_test_integrity)};
    s.v6 = {on(Tunable::v6_enabled), !on(Tunable::v6_def_policy), on(Tunable::v6_strict),
            level(Tunable::v6_esp_trans_deflev), level(Tunable::v6_esp_net_deflev), level(Tunable::v6_ah_trans_deflev),
            level(Tunable::v6_ah_net_deflev), number(Tunable::v6_ecn), number(Tunable::v6_esp_randpad),
            on(Tunable::v6_test_replay), on(Tunable::v6_test_integrity)};
    s.dfbit = number(Tunable::v4_dfbit);
    s.ah = {on(Tunable::v4_ah_cleartos), static_cast<std::uint16_t>(t.get(Tunable::v4_ah_offsetmask))};
    s.esp_enabled = on(Tunable::esp_enable);
    s.ah_enabled = on(Tunable::ah_enable);
    s.ipcomp_enabled = on(Tunable::ipcomp_enable);
    s.trust_natt_checksums = on(Tunable::v4_natt_cksum_policy);
    s.cache_entries = static_cast<std::size_t>(t.get(Tunable::spdcache_maxentries));
    s.cache_threshold = static_cast<std::size_t>(t.get(Tunable::spdcache_threshold));
    walk_->configure(s);

    choke_->on_drop = nullptr;
    if (on(Tunable::v4_debug) || on(Tunable::v6_debug))
        choke_->on_drop = [this](Drop why, const Packet& packet) { log_drop(why, packet); };
    engine_->on_refused = nullptr;
    if (on(Tunable::key_debug))
        engine_->on_refused = [this](KeySocketId socket, std::uint8_t type, const Error& error) {
            log_refused(socket, type, error);
        };
}

std::int64_t Host::computed(Tunable id) const
{
    switch (id) {
    case Tunable::v4_used:
    case Tunable::v6_used: return engine_->no_policies() && !index_.any_bypass() ? 0 : 1;
    case Tunable::v4_crypto_support: return static_cast<std::int64_t>(cipher_->available().count());
    default: return 0;
    }
}

// ---- log --------------------------------------------------------------------------------------------------------

void Host::log_drop(Drop why, const Packet& packet)
{
    const auto& t = engine_->tunables();
    const bool v4 = packet.family != Family::v6 && t.get(Tunable::v4_debug) != 0;
    const bool v6 = packet.family != Family::v4 && t.get(Tunable::v6_debug) != 0;
    if (!v4 && !v6)
        return;
    const auto& row = drop_row(why);
    std::string line = "drop " + std::string(row.name) + ": ";
    if (packet.family != Family::none) {   // none: it could not be read
        const auto& flow = packet.flow;
        const bool ports =
            flow.has_ports && packet.protocol != ip_proto::icmp && packet.protocol != ip_proto::icmpv6;
        const auto end = [ports](const Address& a, std::uint16_t port) {
            return ports ? Endpoint{a, port, 0}.text() : a.text();
        };
        line += end(packet.source, flow.source_port) + " > " + end(packet.destination, flow.destination_port) +
                " protocol " + std::to_string(packet.protocol) + ": ";
    }
    say(line += row.text);
}

void Host::log_refused(KeySocketId socket, std::uint8_t type, const Error& error)
{
    say("PF_KEY socket " + std::to_string(socket) + ": " + std::string(message_name(type)) + " refused: " +
        std::string(error.reason) + " (errno " + std::to_string(error.number()) + ")");
}

void Host::say(std::string_view line)
{
    if (!log)
        return;
    if (choke_->now - log_second_ >= std::chrono::seconds(1)) {
        if (log_left_out_ != 0)
            log(std::to_string(log_left_out_) + " more lines were left out");
        log_second_ = choke_->now;
        log_lines_ = log_left_out_ = 0;
    }
    if (log_lines_ == log_lines_per_second) {
        ++log_left_out_;
        return;
    }
    ++log_lines_;
    log(line);
}

Result<> Host::set_tunable(std::string_view name, std::string_view value)
{
    const auto number = parse_tunable_value(value);
    if (!number)
        return std::unexpected(number.error());
    auto done = engine_->tunables().set(name, *number);
    apply_tunables();
    return done;
}

void Host::frame_in(unsigned port, Bytes frame, Time now)
{
    choke_->now = now;
    // ARP is answered per netif, so aliases see the frame too; everything else is the primary's.
    const bool arp = frame.size() >= 14 && wire::field<std::uint16_t>(frame, 12) == 0x0806;
    for (std::size_t i = 0; i < interfaces_.size(); ++i) {
        auto& interface = *interfaces_[i];
        if (!interface.loopback && interface.port == port && (arp || !interface.alias))
            choke_->frame(interface, frame);
    }
}

bool Host::step(Time now)
{
    choke_->now = now;
    engine_->tick(now);
    choke_->tick();
    sys_check_timeouts();
    const bool more = choke_->run(packets_per_step);
    if (generation_ != engine_->generation()) {
        generation_ = engine_->generation();
        apply_tunables();
        choke_->resize_segments();
    }
    return more;
}

Time Host::next_deadline() const
{
    const auto sleep = sys_timeouts_sleeptime();
    const Time lwip = sleep == SYS_TIMEOUTS_SLEEPTIME_INFINITE ? Time::max() : choke_->now + std::chrono::milliseconds(sleep);
    return std::min({lwip, engine_->next_deadline(), choke_->next_deadline()});
}

}  // namespace latchkey
