// SPDX-License-Identifier: BSD-2-Clause
// The C side of the choke layer: the functions that lwIP was compiled to call in place of its own (stack/lwip), and its hooks.
// lwIP is one set of globals, so there is one active choke per copy of this code.
#include "stack/choke_lwip.hpp"

#include "stack/lwip_address.hpp"

#include "latchkey_hooks.h"
#include "lwip/sys.h"

#include <openssl/evp.h>

namespace latchkey {

namespace {
Choke* active = nullptr;
Rng* random_source = nullptr;
std::array<std::uint8_t, 32> isn_secret{};

err_t output_v4(netif* n, pbuf* p, const ip4_addr_t* destination)
{
    return active->output(*n, p, from_lwip(*destination));
}

err_t output_v6(netif* n, pbuf* p, const ip6_addr_t* destination)
{
    return active->output(*n, p, from_lwip(*destination));
}

}  // namespace

void activate_choke(Choke* choke, Rng* rng)
{
    active = choke;
    random_source = rng;
    if (rng != nullptr)
        rng->fill(isn_secret);
}

void take_over_output(netif& n)
{
    n.output = output_v4;
    n.output_ip6 = output_v6;
}

}  // namespace latchkey

using latchkey::active;

extern "C" {

err_t latchkey_ip4_frag(struct pbuf* p, struct netif* n, const ip4_addr_t* destination)
{
    return active->output(*n, p, latchkey::from_lwip(*destination));
}

err_t latchkey_ip6_frag(struct pbuf* p, struct netif* n, const ip6_addr_t* destination)
{
    return active->output(*n, p, latchkey::from_lwip(*destination));
}

err_t latchkey_netif_loop_output(struct netif* n, struct pbuf* p)
{
    return active->loop_output(*n, p);
}

// Fragments are put together before lwIP's input sees them; one that gets here did not pass ingress.
struct pbuf* latchkey_ip4_reass(struct pbuf* p)
{
    pbuf_free(p);
    return nullptr;
}

struct pbuf* latchkey_ip6_reass(struct pbuf* p)
{
    pbuf_free(p);
    return nullptr;
}

raw_input_state_t latchkey_raw_input(struct pbuf* p, struct netif* in)
{
    if (!active->admits(p)) {
        pbuf_free(p);
        return RAW_INPUT_EATEN;
    }
    return raw_input(p, in);
}

void latchkey_icmp_dest_unreach(struct pbuf* p, enum icmp_dur_type type)
{
    icmp_dest_unreach(p, type);
}

u16_t latchkey_tcp_eff_send_mss_netif(u16_t wanted, struct netif*, const ip_addr_t* remote)
{
    return active->segment_size(wanted, remote, false);
}

u16_t latchkey_tcp_announced_mss(u16_t wanted, struct netif*, const ip_addr_t* remote)
{
    return active->segment_size(wanted, remote, true);
}

struct netif* latchkey_ip4_route(const ip4_addr_t*, const ip4_addr_t* destination)
{
    auto* by = active->route(latchkey::from_lwip(*destination));
    return by != nullptr ? &by->lwip : nullptr;
}

struct netif* latchkey_ip6_route(const ip6_addr_t*, const ip6_addr_t* destination)
{
    auto* by = active->route(latchkey::from_lwip(*destination));
    return by != nullptr ? &by->lwip : nullptr;
}

// link_output() resolves the next hop itself: the address given is on link.
const ip4_addr_t* latchkey_etharp_gateway(struct netif*, const ip4_addr_t* destination)
{
    return destination;
}

// The same, but a packet that waited for its neighbour comes again with its final destination (nd6_send_q).
const ip6_addr_t* latchkey_nd6_gateway(struct netif* n, const ip6_addr_t* destination)
{
    static ip6_addr_t hop;
    hop = active->next_hop_v6(*n, *destination);
    return &hop;
}

// Forwarding is the choke layer's: lwIP must never do it behind the policy check.
int latchkey_ip4_canforward(struct pbuf*, u32_t)
{
    return 0;
}

u32_t latchkey_random32(void)
{
    return latchkey::random_source->next32();
}

// RFC 6528: a 4 microsecond clock plus a keyed hash of the connection.
u32_t latchkey_tcp_isn(const ip_addr_t* local, u16_t local_port, const ip_addr_t* remote, u16_t remote_port)
{
    std::array<std::uint8_t, 32 + 16 + 16 + 4> input{};
    latchkey::wire::Writer w(input);
    w.put(latchkey::isn_secret);
    w.put(latchkey::from_lwip(*local).bytes());
    w.put(latchkey::from_lwip(*remote).bytes());
    w.put<std::uint16_t>(local_port);
    w.put<std::uint16_t>(remote_port);
    std::array<std::uint8_t, 32> digest{};
    EVP_Digest(input.data(), w.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
    const auto clock = std::chrono::duration_cast<std::chrono::microseconds>(active->now).count() / 4;
    return latchkey::wire::field<std::uint32_t>(digest, 0) + static_cast<u32_t>(clock);
}

u32_t sys_now(void)
{
    return static_cast<u32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(active->now).count());
}

}  // extern "C"
