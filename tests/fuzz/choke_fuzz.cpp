// SPDX-License-Identifier: BSD-2-Clause
// Frames from the wire into a whole host: choke layer, reassembly, ESP, AH, IPComp, ESP in UDP, policy check,
// forwarding, lwIP. The host has clear, protected and port-selected policies, SAs in both modes, some of them without
// an ICV (so that what is inside is reached as well), and routes. Input: records of a two-byte length
// (network order, its top bit: let a second pass first) and an Ethernet frame whose first 12 bytes are replaced by the
// right addresses, so that the fuzzer does not have to guess them.
#include "pfkey/message.hpp"
#include "stack/host.hpp"
#include "tests/support/rng.hpp"

#include <cstdio>
#include <cstdlib>
#include <sys/socket.h>

using namespace latchkey;

namespace {

AddressExt at(const char* text, std::uint8_t length)
{
    AddressExt a;
    a.prefix_length = length;
    a.endpoint.address = *Address::parse(text);
    return a;
}

void expect(bool ok)
{
    if (!ok)
        std::abort();
}

class Target {
public:
    Target()
    {
        HostConfig config;
        config.interfaces.resize(2);
        config.interfaces[0].mac = MacAddress{2, 0, 0, 0, 0, 1};
        config.interfaces[0].addresses = {*Prefix::parse("10.0.0.1/24"), *Prefix::parse("fd00::1/64")};
        config.interfaces[1].mac = MacAddress{2, 0, 0, 0, 1, 1};
        config.interfaces[1].addresses = {*Prefix::parse("10.1.0.1/24"), *Prefix::parse("fd01::1/64")};
        config.forwarding = true;
        auto made = Host::create(config, rng_, now_);
        if (!made)
            std::fprintf(stderr, "the host cannot be made: %s\n", made.error().c_str());
        expect(made.has_value());
        host_ = std::move(*made);
        const auto key = host_->engine().open_key_socket();
        expect(key.has_value());
        add_sa(*key, "10.0.0.2", "10.0.0.1", 0x1001, IPSEC_MODE_TRANSPORT);
        add_sa(*key, "10.0.0.2", "10.0.0.1", 0x1002, IPSEC_MODE_TUNNEL);
        add_sa(*key, "fd00::2", "fd00::1", 0x1003, IPSEC_MODE_TRANSPORT);
        add_sa(*key, "fd00::2", "fd00::1", 0x1004, IPSEC_MODE_ANY);
        add_open_sa("10.0.0.2", "10.0.0.1", 0x1005, Mode::transport, 0);
        add_open_sa("10.0.0.2", "10.0.0.1", 0x1006, Mode::tunnel, 0);
        add_open_sa("10.0.0.2", "10.0.0.1", 0x1007, Mode::any, 4500);
        add_open_sa("fd00::2", "fd00::1", 0x1008, Mode::any, 4500);
        add_ah(*key, "10.0.0.2", "10.0.0.1", 0x1009);
        add_ah(*key, "fd00::2", "fd00::1", 0x100a);
        add_ipcomp(*key, "10.0.0.2", "10.0.0.1", 0x100b, IPSEC_MODE_TUNNEL);
        add_ipcomp(*key, "fd00::2", "fd00::1", 0x100c, IPSEC_MODE_TRANSPORT);
        add_policy(*key, "10.0.0.2", 32, "10.0.0.1", 32, IPSEC_DIR_INBOUND, ip_proto::udp, 4444);
        add_policy(*key, "10.0.0.0", 24, "10.1.0.0", 24, IPSEC_DIR_FWD, ip_proto::any, 0);
        add_policy(*key, "fd00::2", 128, "fd00::1", 128, IPSEC_DIR_INBOUND, ip_proto::tcp, 0);
        host_->engine().close_key_socket(*key);
        auto& sockets = host_->sockets();   // IPv6 sockets take IPv4 as well
        const auto udp = sockets.open(AF_INET6, SOCK_DGRAM, 0, {});
        const auto tcp = sockets.open(AF_INET6, SOCK_STREAM, 0, {});
        const Address any = Address::any(Family::v6);
        expect(udp && tcp && sockets.bind(*udp, {any, 4444, 0}) && sockets.bind(*tcp, {any, 5001, 0}) &&
               sockets.listen(*tcp, 4));
        udp_ = *udp;
    }

    void frame(Bytes frame, bool wait)
    {
        static constexpr std::array<std::uint8_t, 12> addresses{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9};
        std::vector<std::uint8_t> whole(frame.begin(), frame.end());
        std::copy_n(addresses.begin(), std::min(whole.size(), addresses.size()), whole.begin());
        now_ += wait ? Time(std::chrono::seconds(1)) : Time(std::chrono::milliseconds(1));
        host_->frame_in(0, whole, now_);
        while (host_->step(now_)) {
        }
        for (DatagramView view; host_->sockets().front_datagram(udp_, view);)
            host_->sockets().pop_datagram(udp_);
    }

private:
    void send(KeySocketId key, const Message& message)
    {
        expect(host_->engine().handle(key, message.bytes(), now_).has_value());
        const auto header = peek_header(host_->engine().front(key));
        expect(header && header->error == 0);
        while (!host_->engine().front(key).empty())
            host_->engine().pop(key, now_);
    }

    void add_sa(KeySocketId key, const char* from, const char* to, std::uint32_t spi, std::uint8_t mode)
    {
        static constexpr std::array<std::uint8_t, 20> secret{1, 2, 3};
        Message m;
        m.type = SADB_ADD;
        m.satype = SADB_SATYPE_ESP;
        m.sa = SaExt{spi, 32, SADB_SASTATE_MATURE, 0, SADB_X_EALG_AES_GCM_ICV16, 0};
        m.cipher_key = KeyExt{160, secret};
        m.sa2 = Sa2Ext{mode, 0, 0};
        m.source = at(from, 32);
        m.destination = at(to, 32);
        send(key, m);
    }

    static Message sa_message(std::uint8_t satype, const char* from, const char* to, std::uint32_t spi,
                              std::uint8_t mode)
    {
        Message m;
        m.type = SADB_ADD;
        m.satype = satype;
        m.sa = SaExt{spi, 0, SADB_SASTATE_MATURE, 0, 0, 0};
        m.sa2 = Sa2Ext{mode, 0, 0};
        m.source = at(from, 32);
        m.destination = at(to, 32);
        return m;
    }

    // ESP with nothing to guess: no cipher, no ICV. No message can ask for that. natt_port 0: plain.
    void add_open_sa(const char* from, const char* to, std::uint32_t spi, Mode mode, std::uint16_t natt_port)
    {
        auto sa = std::make_unique<Sa>();
        sa->spi = spi;
        sa->mode = mode;
        sa->state = SaState::mature;
        sa->source = *Address::parse(from);
        sa->destination = *Address::parse(to);
        sa->cipher = algorithm_by_name(AlgorithmKind::cipher, "null");
        if (natt_port != 0) {
            sa->natt = std::make_unique<NatTraversal>();
            sa->natt->type = 2;
            sa->natt->source_port = sa->natt->destination_port = natt_port;
        }
        expect(host_->engine().sad().insert(std::move(sa)).has_value());
    }

    void add_ah(KeySocketId key, const char* from, const char* to, std::uint32_t spi)
    {
        static constexpr std::array<std::uint8_t, 20> secret{1, 2, 3};
        auto m = sa_message(SADB_SATYPE_AH, from, to, spi, IPSEC_MODE_ANY);
        m.sa->auth = SADB_AALG_SHA1HMAC;
        m.auth_key = KeyExt{160, secret};
        send(key, m);
    }

    void add_ipcomp(KeySocketId key, const char* from, const char* to, std::uint32_t spi, std::uint8_t mode)
    {
        auto m = sa_message(SADB_X_SATYPE_IPCOMP, from, to, spi, mode);
        m.sa->encrypt = SADB_X_CALG_DEFLATE;
        send(key, m);
    }

    void add_policy(KeySocketId key, const char* from, std::uint8_t from_bits, const char* to, std::uint8_t to_bits,
                    std::uint8_t direction, std::uint8_t protocol, std::uint16_t port)
    {
        Message m;
        m.type = SADB_X_SPDADD;
        m.source = at(from, from_bits);
        m.destination = at(to, to_bits);
        m.source->protocol = m.destination->protocol = protocol;
        m.destination->endpoint.port = port;
        m.policy = PolicyExt{IPSEC_POLICY_IPSEC, direction, 0, 0, {{}}};
        m.policy->requests[0].level = Level::require;
        send(key, m);
    }

    test::SequenceRng rng_;
    Time now_ = std::chrono::seconds(1000);
    std::unique_ptr<Host> host_;
    SocketId udp_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static Target target;
    wire::Reader in({data, size});
    for (unsigned frames = 0; frames < 64 && in.left() > 2; ++frames) {
        const auto word = in.get<std::uint16_t>();
        const auto length = std::min<std::size_t>(word & 0x7fffu, in.left());
        target.frame(in.take(length), (word & 0x8000u) != 0);
    }
    return 0;
}
