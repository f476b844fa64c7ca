// SPDX-License-Identifier: BSD-2-Clause
#include "tests/stack/lwip_stubs.hpp"

#include "stack/lwip_address.hpp"

#include "latchkey_hooks.h"
#include "lwip/init.h"
#include "lwip/ip4_frag.h"
#include "lwip/ip6_frag.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/sys.h"
#include "lwip/timeouts.h"

namespace latchkey::test {

namespace {

netif lo, net;
Loopback* running = nullptr;
PinnedRng rng;

err_t start_netif(netif* n)
{
    n->name[0] = 't';
    n->name[1] = 's';
    n->mtu = n == &lo ? 65535 : 1500;
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_IGMP | NETIF_FLAG_MLD6;
    n->output = [](netif*, pbuf*, const ip4_addr_t*) -> err_t { return running->output_error; };   // nobody is there
    n->output_ip6 = [](netif*, pbuf*, const ip6_addr_t*) -> err_t { return running->output_error; };
    return ERR_OK;
}

void add_netif(netif& n, const char* v4, const char* mask, const char* v6)
{
    const auto address = to_lwip4(*Address::parse(v4)), bits = to_lwip4(*Address::parse(mask));
    const ip4_addr_t none{};
    netif_add(&n, &address, &bits, &none, nullptr, start_netif, netif_input);
    const auto six = to_lwip6(*Address::parse(v6));
    netif_ip6_addr_set(&n, 0, &six);
    netif_ip6_addr_set_state(&n, 0, IP6_ADDR_PREFERRED);
    netif_set_link_up(&n);
    netif_set_up(&n);
}

}  // namespace

std::uint32_t stub_now()
{
    return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(running->now_).count());
}

Loopback& Loopback::instance()
{
    static Loopback one;
    return one;
}

Loopback::Loopback()
{
    running = this;
    lwip_init();
    add_netif(lo, "127.0.0.1", "255.0.0.0", "::1");
    add_netif(net, "10.0.0.1", "255.255.255.0", "fd00::1");
}

void Loopback::pump()
{
    for (auto seen = packets + 1; seen != packets;) {
        seen = packets;
        netif_poll(&lo);
        netif_poll(&net);
    }
}

void Loopback::advance(Time by)
{
    const auto until = now_ + by;
    while (now_ < until) {
        pump();
        now_ = std::min(until, now_ + Time(std::chrono::milliseconds(50)));
        sys_check_timeouts();
    }
    pump();
}

}  // namespace latchkey::test

using latchkey::test::running;

// The names that lwIP was compiled to call (stack/lwip/latchkey_hooks.h).
extern "C" {

err_t latchkey_netif_loop_output(struct netif* n, struct pbuf* p)
{
    ++running->packets;
    if (running->output_error != ERR_OK)
        return running->output_error;
    return running->lose && running->lose(p) ? static_cast<err_t>(ERR_OK) : netif_loop_output(n, p);
}

err_t latchkey_ip4_frag(struct pbuf* p, struct netif* n, const ip4_addr_t* destination)
{
    return ip4_frag(p, n, destination);
}

err_t latchkey_ip6_frag(struct pbuf* p, struct netif* n, const ip6_addr_t* destination)
{
    return ip6_frag(p, n, destination);
}

struct pbuf* latchkey_ip4_reass(struct pbuf* p) { return ip4_reass(p); }
struct pbuf* latchkey_ip6_reass(struct pbuf* p) { return ip6_reass(p); }
raw_input_state_t latchkey_raw_input(struct pbuf* p, struct netif* in) { return raw_input(p, in); }
void latchkey_icmp_dest_unreach(struct pbuf* p, enum icmp_dur_type type) { icmp_dest_unreach(p, type); }

u16_t latchkey_tcp_eff_send_mss_netif(u16_t wanted, struct netif* out, const ip_addr_t* remote)
{
    return tcp_eff_send_mss_netif(wanted, out, remote);
}

u16_t latchkey_tcp_announced_mss(u16_t wanted, struct netif* out, const ip_addr_t* remote)
{
    return tcp_eff_send_mss_netif(wanted, out, remote);
}

static struct netif* route_to(const latchkey::Address& destination)
{
    using latchkey::Prefix;
    if (destination.is_loopback())
        return &latchkey::test::lo;
    const bool on_link = Prefix::parse("10.0.0.0/24")->contains(destination) ||
                         Prefix::parse("fd00::/64")->contains(destination) || destination.is_multicast();
    return on_link ? &latchkey::test::net : nullptr;
}

struct netif* latchkey_ip4_route(const ip4_addr_t*, const ip4_addr_t* destination)
{
    return route_to(latchkey::from_lwip(*destination));
}

struct netif* latchkey_ip6_route(const ip6_addr_t*, const ip6_addr_t* destination)
{
    return route_to(latchkey::from_lwip(*destination));
}

const ip4_addr_t* latchkey_etharp_gateway(struct netif*, const ip4_addr_t* destination) { return destination; }
const ip6_addr_t* latchkey_nd6_gateway(struct netif*, const ip6_addr_t* destination) { return destination; }
int latchkey_ip4_canforward(struct pbuf*, u32_t) { return 0; }
u32_t latchkey_random32(void) { return latchkey::test::rng.next32(); }
u32_t latchkey_tcp_isn(const ip_addr_t*, u16_t, const ip_addr_t*, u16_t) { return latchkey::test::rng.next32(); }
u32_t sys_now(void) { return latchkey::test::stub_now(); }

}  // extern "C"
