// SPDX-License-Identifier: BSD-2-Clause
// lwIP as stack/lwip builds it: options, redirects, limits. The host's side is played by counting pass-throughs; two
// interfaces of the one stack are joined by a cable in memory, and a virtual clock runs.
#include "latchkey_hooks.h"

#include <doctest/doctest.h>
#include <lwip/etharp.h>
#include <lwip/inet_chksum.h>
#include <lwip/init.h>
#include <lwip/ip4_frag.h>
#include <lwip/ip6_frag.h>
#include <lwip/memp.h>
#include <lwip/nd6.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/stats.h>
#include <lwip/timeouts.h>
#include <lwip/udp.h>
#include <netif/ethernet.h>

#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace {

std::map<std::string, unsigned> calls;
u32_t clock_ms = 1000;
std::mt19937 random_source(1);

}  // namespace

extern "C" {
u32_t sys_now() { return clock_ms; }
std::uint32_t latchkey_random32() { return static_cast<std::uint32_t>(random_source()); }
netif* latchkey_ip4_route(const ip4_addr_t*, const ip4_addr_t*) { return ++calls["ip4_route"], nullptr; }
netif* latchkey_ip6_route(const ip6_addr_t*, const ip6_addr_t*) { return ++calls["ip6_route"], nullptr; }
const ip4_addr_t* latchkey_etharp_gateway(netif*, const ip4_addr_t* dest) { return ++calls["gateway4"], dest; }
const ip6_addr_t* latchkey_nd6_gateway(netif*, const ip6_addr_t* dest) { return ++calls["gateway6"], dest; }
int latchkey_ip4_canforward(pbuf*, u32_t) { return ++calls["canforward"], 0; }
u32_t latchkey_tcp_isn(const ip_addr_t*, u16_t, const ip_addr_t*, u16_t) { return ++calls["isn"], 0xfffff000u; }
err_t latchkey_ip4_frag(pbuf* p, netif* n, const ip4_addr_t* d) { return ++calls["ip4_frag"], ip4_frag(p, n, d); }
err_t latchkey_ip6_frag(pbuf* p, netif* n, const ip6_addr_t* d) { return ++calls["ip6_frag"], ip6_frag(p, n, d); }
pbuf* latchkey_ip4_reass(pbuf* p) { return ++calls["ip4_reass"], ip4_reass(p); }
pbuf* latchkey_ip6_reass(pbuf* p) { return ++calls["ip6_reass"], ip6_reass(p); }
raw_input_state_t latchkey_raw_input(pbuf* p, netif* n) { return ++calls["raw_input"], raw_input(p, n); }
err_t latchkey_netif_loop_output(netif* n, pbuf* p) { return ++calls["loop_output"], netif_loop_output(n, p); }
void latchkey_icmp_dest_unreach(pbuf* p, icmp_dur_type t) { return ++calls["unreach"], icmp_dest_unreach(p, t); }
u16_t latchkey_tcp_eff_send_mss_netif(u16_t mss, netif* n, const ip_addr_t* d)
{
    return ++calls["mss"], tcp_eff_send_mss_netif(mss, n, d);
}
u16_t latchkey_tcp_announced_mss(u16_t mss, netif* n, const ip_addr_t* d)
{
    return ++calls["announced_mss"], tcp_eff_send_mss_netif(mss, n, d);
}
}

namespace {

struct Port {
    netif lwip{};
    Port* far = nullptr;
    std::deque<std::vector<u8_t>> incoming;
};

err_t link_output(netif* n, pbuf* p)
{
    std::vector<u8_t> frame(p->tot_len);
    pbuf_copy_partial(p, frame.data(), p->tot_len, 0);
    static_cast<Port*>(n->state)->far->incoming.push_back(std::move(frame));
    return ERR_OK;
}

err_t counted_output6(netif* n, pbuf* p, const ip6_addr_t* d) { return ++calls["output_ip6"], ethip6_output(n, p, d); }

err_t start_port(netif* n)
{
    n->name[0] = 'e';
    n->name[1] = 't';
    n->mtu = 1500;
    n->hwaddr_len = 6;
    n->output = etharp_output;
    n->output_ip6 = counted_output6;
    n->linkoutput = link_output;
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP | NETIF_FLAG_IGMP |
               NETIF_FLAG_MLD6;
    return ERR_OK;
}

ip_addr_t address(const char* text)
{
    ip_addr_t result{};
    REQUIRE(ipaddr_aton(text, &result));
    return result;
}

struct Cable {
    Port a, b;
    const ip_addr_t a4 = address("10.0.0.1"), b4 = address("10.0.1.1"), a6 = address("fd00::1"),
                    b6 = address("fd00::2");
    udp_pcb* receiver = nullptr;
    udp_pcb* sender = nullptr;
    std::size_t received = 0;

    Cable()
    {
        static const bool once = (lwip_init(), true);
        (void)once;
        calls.clear();
        a.far = &b;
        b.far = &a;
        add(a, a4, a6, 1);
        add(b, b4, b6, 2);
        netif_set_default(&a.lwip);
        receiver = udp_new_ip_type(IPADDR_TYPE_ANY);
        sender = udp_new_ip_type(IPADDR_TYPE_ANY);
        udp_bind(receiver, IP_ANY_TYPE, 9);
        udp_recv(
            receiver,
            [](void* self, udp_pcb*, pbuf* p, const ip_addr_t*, u16_t) {
                static_cast<Cable*>(self)->received += p->tot_len;
                pbuf_free(p);
            },
            this);
        calls.clear();
    }

    ~Cable()
    {
        udp_remove(receiver);
        udp_remove(sender);
        netif_remove(&a.lwip);
        netif_remove(&b.lwip);
    }

    static void add(Port& port, const ip_addr_t& v4, const ip_addr_t& v6, u8_t number)
    {
        ip4_addr_t mask;
        IP4_ADDR(&mask, 255, 255, 255, 0);
        REQUIRE(netif_add(&port.lwip, ip_2_ip4(&v4), &mask, nullptr, &port, start_port, ethernet_input));
        port.lwip.hwaddr[0] = 2;
        port.lwip.hwaddr[5] = number;
        netif_set_up(&port.lwip);
        netif_create_ip6_linklocal_address(&port.lwip, 1);
        s8_t index = -1;
        REQUIRE(netif_add_ip6_address(&port.lwip, ip_2_ip6(&v6), &index) == ERR_OK);
        netif_ip6_addr_set_state(&port.lwip, index, IP6_ADDR_PREFERRED);
    }

    static bool pump_one(Port& port)
    {
        if (port.incoming.empty())
            return false;
        const auto frame = std::move(port.incoming.front());
        port.incoming.pop_front();
        auto* const p = pbuf_alloc(PBUF_RAW, static_cast<u16_t>(frame.size()), PBUF_RAM);
        pbuf_take(p, frame.data(), p->tot_len);
        if (port.lwip.input(p, &port.lwip) != ERR_OK)
            pbuf_free(p);
        return true;
    }

    void pump()
    {
        while (pump_one(a) || pump_one(b))
            ;
        netif_poll_all();
    }

    void run(u32_t milliseconds)
    {
        for (const auto end = clock_ms + milliseconds; clock_ms < end; clock_ms += 10) {
            sys_check_timeouts();
            pump();
        }
    }

    // From a, over the cable: lwIP would shorten the way to its own other interface.
    void send(const ip_addr_t& to, u16_t size)
    {
        auto* const p = pbuf_alloc(PBUF_TRANSPORT, size, PBUF_RAM);
        std::memset(p->payload, 'x', size);
        CHECK(udp_sendto_if_src(sender, p, &to, 9, &a.lwip, IP_IS_V6(&to) ? &a6 : &a4) == ERR_OK);
        pbuf_free(p);
    }

    std::size_t exchange(const ip_addr_t& to, u16_t size)
    {
        const auto before = received;
        send(to, size);
        pump();
        return received - before;
    }
};

unsigned used(memp_t pool) { return static_cast<unsigned>(lwip_stats.memp[pool]->used); }

// RFC 1071 in its plainest form.
std::uint16_t plain_sum(const std::uint8_t* data, std::size_t size)
{
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < size; ++i)
        sum += i % 2 != 0 ? std::uint32_t{data[i]} << 8 : data[i];   // words in memory order, little-endian
    while (sum > 0xffff)
        sum = (sum >> 16) + (sum & 0xffff);
    return static_cast<std::uint16_t>(
        std::endian::native == std::endian::little ? sum : std::byteswap(static_cast<std::uint16_t>(sum)));
}

}  // namespace

TEST_CASE("lwip: static IPv6 addresses can be used at once")
{
    Cable cable;
    for (s8_t i = 0; i < 2; ++i)
        CHECK(ip6_addr_ispreferred(netif_ip6_addr_state(&cable.a.lwip, i)));
    CHECK(cable.exchange(cable.b6, 10) == 10);
}

TEST_CASE("lwip: datagrams pass the redirected fragmenter, reassembly and raw_input, in both families")
{
    Cable cable;
    CHECK(cable.exchange(cable.b4, 100) == 100);
    CHECK(calls["ip4_frag"] == 0);
    CHECK(calls["raw_input"] == 1);
    CHECK(calls["gateway4"] == 1);   // another subnet
    CHECK(cable.exchange(cable.b4, 3000) == 3000);
    CHECK(calls["ip4_frag"] == 1);
    CHECK(calls["ip4_reass"] == 3);
    CHECK(calls["raw_input"] == 2);

    CHECK(cable.exchange(cable.b6, 100) == 100);
    CHECK(calls["ip6_frag"] == 0);
    CHECK(cable.exchange(cable.b6, 3000) == 3000);
    CHECK(calls["ip6_frag"] == 1);
    CHECK(calls["ip6_reass"] == 3);
}

TEST_CASE("lwip: packets to an own address pass the redirected loop")
{
    Cable cable;
    CHECK(cable.exchange(cable.a4, 10) == 10);
    CHECK(cable.exchange(cable.a6, 10) == 10);
    CHECK(calls["loop_output"] == 2);
}

TEST_CASE("lwip: a packet that waited for neighbour discovery does not pass the choke layer again")
{
    Cable cable;
    nd6_cleanup_netif(&cable.a.lwip);
    nd6_cleanup_netif(&cable.b.lwip);
    calls.clear();
    cable.send(cable.b6, 10);
    CHECK(calls["output_ip6"] == 2);   // the datagram, and the solicitation that it causes
    cable.pump();
    CHECK(cable.received == 10);
    CHECK(calls["output_ip6"] == 3);   // the answer; not the datagram once more
}

TEST_CASE("lwip: a protocol nobody speaks is answered through the redirected function")
{
    Cable cable;
    cable.exchange(cable.b4, 10);
    auto* const p = pbuf_alloc(PBUF_IP, 20, PBUF_RAM);
    std::memset(p->payload, 0, 20);
    CHECK(ip4_output_if(p, ip_2_ip4(&cable.a4), ip_2_ip4(&cable.b4), 64, 0, 99, &cable.a.lwip) == ERR_OK);
    pbuf_free(p);
    cable.pump();
    CHECK(calls["unreach"] == 1);
}

TEST_CASE("lwip: forwarding asks the host first")
{
    Cable cable;
    // For b by its Ethernet address, for 10.0.0.77 by IP.
    std::vector<u8_t> frame{2,  0, 0, 0, 0, 2, 2,  0,  0, 0, 0,  1, 8, 0, 0x45, 0, 0,
                            20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 9, 9, 10, 0, 0, 77};
    const auto sum = static_cast<u16_t>(~plain_sum(&frame[14], 20));
    std::memcpy(&frame[24], &sum, 2);
    cable.b.incoming.push_back(frame);
    cable.pump();
    CHECK(calls["canforward"] == 1);
    CHECK(cable.a.incoming.empty());
}

TEST_CASE("lwip: TCP uses the hooks, scales its window and moves megabytes; nothing is left behind")
{
    Cable cable;
    constexpr std::size_t total = 8u << 20;
    for (const bool v6 : {false, true}) {
        CAPTURE(v6);
        calls.clear();
        static std::size_t got;
        static bool up;
        got = 0;
        up = false;
        auto* listener = tcp_new_ip_type(IPADDR_TYPE_ANY);
        REQUIRE(tcp_bind(listener, IP_ANY_TYPE, 80) == ERR_OK);
        listener = tcp_listen(listener);
        tcp_accept(listener, [](void*, tcp_pcb* pcb, err_t) -> err_t {
            tcp_recv(pcb, [](void*, tcp_pcb* from, pbuf* p, err_t) -> err_t {
                if (!p)
                    return tcp_close(from);
                got += p->tot_len;
                tcp_recved(from, p->tot_len);
                pbuf_free(p);
                return ERR_OK;
            });
            return ERR_OK;
        });
        auto* const client = tcp_new_ip_type(IPADDR_TYPE_ANY);
        CHECK(client->rto * TCP_SLOW_INTERVAL == 3000);
        REQUIRE(tcp_bind(client, v6 ? &cable.a6 : &cable.a4, 0) == ERR_OK);
        tcp_bind_netif(client, &cable.a.lwip);
        REQUIRE(tcp_connect(client, v6 ? &cable.b6 : &cable.b4, 80,
                            [](void*, tcp_pcb*, err_t) -> err_t { return up = true, ERR_OK; }) == ERR_OK);
        cable.pump();
        REQUIRE(up);
        CHECK(client->mss == (v6 ? 1440 : 1460));
        CHECK((client->flags & (TF_WND_SCALE | TF_SACK | TF_TIMESTAMP)) == (TF_WND_SCALE | TF_SACK | TF_TIMESTAMP));
        CHECK(calls["isn"] == 2);
        CHECK(calls["announced_mss"] == 2);
        CHECK(calls["mss"] >= 2);

        const std::vector<char> blob(16384, 'y');
        std::size_t sent = 0;
        for (int round = 0; round < 4000 && got < total; ++round) {
            while (sent < total && tcp_write(client, blob.data(), 16384, TCP_WRITE_FLAG_COPY) == ERR_OK)
                sent += blob.size();
            tcp_output(client);
            cable.run(10);
        }
        CHECK(got == total);
        CHECK(client->snd_wnd > 0xffff);
        CHECK(client->rto * TCP_SLOW_INTERVAL == 300);   // the least there is, after round trips of almost nothing
        CHECK(tcp_close(client) == ERR_OK);
        cable.run(59'000);
        CHECK(tcp_tw_pcbs != nullptr);
        cable.run(3'000);
        CHECK(tcp_tw_pcbs == nullptr);
        CHECK(tcp_active_pcbs == nullptr);
        tcp_close(listener);
        CHECK(used(MEMP_TCP_PCB) == 0);
        CHECK(used(MEMP_TCP_SEG) == 0);
    }
}

TEST_CASE("lwip: queues behind unresolved neighbours are bounded and end with the resolution")
{
    Cable cable;
    const auto nobody4 = address("10.0.0.99"), nobody6 = address("fd00::99");
    for (int i = 0; i < 2000; ++i) {
        cable.send(nobody4, 10);
        cable.send(nobody6, 10);
    }
    CHECK(used(MEMP_ARP_QUEUE) == 32);
    CHECK(used(MEMP_ND6_QUEUE) == 512);
    cable.run(20'000);
    CHECK(used(MEMP_ARP_QUEUE) == 0);
    CHECK(used(MEMP_ND6_QUEUE) == 0);
}

TEST_CASE("lwip: pools are limits although memory comes from malloc")
{
    Cable cable;
    std::vector<tcp_pcb*> all;
    while (auto* const pcb = tcp_new())
        all.push_back(pcb);
    CHECK(all.size() == MEMP_NUM_TCP_PCB);
    for (auto* const pcb : all)
        tcp_abort(pcb);
    CHECK(used(MEMP_TCP_PCB) == 0);
}

TEST_CASE("lwip: the Internet sum agrees with RFC 1071 at every alignment and length")
{
    const std::uint8_t rfc[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};   // RFC 1071 §3: 0xddf2
    const auto sum = static_cast<u16_t>(~inet_chksum(rfc, 8));
    const std::uint8_t wanted[] = {0xdd, 0xf2};
    CHECK(std::memcmp(&sum, wanted, 2) == 0);

    std::vector<std::uint8_t> data(65536 + 64);
    for (const int fill : {0, 0xff, -1}) {
        for (auto& byte : data)
            byte = static_cast<std::uint8_t>(fill < 0 ? static_cast<int>(random_source() & 0xff) : fill);
        for (std::size_t offset = 0; offset < 32; ++offset)
            for (const std::size_t size : {0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 20, 31, 33, 63, 64, 65, 1460, 8961, 65535})
                CHECK(static_cast<u16_t>(~inet_chksum(&data[offset], static_cast<u16_t>(size))) ==
                      plain_sum(&data[offset], size));
    }
}
