// SPDX-License-Identifier: BSD-2-Clause
#include "support/script.hpp"

#include "setkey/build.hpp"
#include "setkey/parser.hpp"
#include "stack/packet.hpp"

namespace latchkey::sim {

std::vector<std::vector<std::uint8_t>> key_receive(World& world, Instance& host, KeySocketId socket)
{
    std::vector<std::vector<std::uint8_t>> out;
    for (auto front = host.key_front(socket); !front.empty(); front = host.key_front(socket)) {
        out.emplace_back(front.begin(), front.end());
        host.key_pop(socket, world.now());
    }
    return out;
}

std::vector<std::vector<std::uint8_t>> key_exchange(World& world, Instance& host, KeySocketId socket, const Message& message)
{
    if (!host.key_send(socket, message.bytes(), world.now()))
        return {};
    return key_receive(world, host, socket);
}

std::string setkey(World& world, Instance& host, std::string_view script)
{
    const Source source("script", script);
    setkey::ParseOptions options;
    options.numeric = true;
    setkey::Parser parser(source, options);
    const auto socket = host.key_open();
    if (!socket)
        return "no key socket";
    std::string wrong;
    for (;;) {
        auto command = parser.next();
        if (!command) {
            wrong += source.where(command.error().offset) + ": " + command.error().text + "\n";
            break;
        }
        if (!*command)
            break;
        setkey::build(**command, {}, [&](const Message& message, bool) {
            Message numbered = message;
            numbered.seq = 1;
            numbered.pid = 1;
            if (const auto sent = host.key_send(*socket, numbered.bytes(), world.now()); !sent)
                wrong += std::string(sent.error().reason) + "\n";
            for (const auto& record : key_receive(world, host, *socket))
                if (const auto header = peek_header(record); header && header->error != 0)
                    wrong += std::string(message_name(header->type)) + ": " + std::strerror(header->error) + "\n";
        });
    }
    host.key_close(*socket);
    return wrong;
}

std::string pair_script(const Protection& p, bool for_a)
{
    const auto& ends = p.tunnel ? p.outer : p.inner;
    const std::string a = ends.a.text(), b = ends.b.text();
    const std::string mode = p.tunnel ? "tunnel" : "transport";
    const auto sa = [&](const std::string& from, const std::string& to, const std::string& spi) {
        const std::string natt = p.in_udp ? "[4500]" : "", inner = (&from == &a ? p.inner.a : p.inner.b).text(),
                          inner_to = (&from == &a ? p.inner.b : p.inner.a).text();
        std::string out = "add " + from + natt + " " + to + natt + (p.in_udp ? " esp-udp " : " esp ") + spi + " -m " +
                          mode + " -r 64 " + p.algorithm + ";\n";
        if (p.compressed)
            out += "add " + inner + " " + inner_to + " ipcomp " + spi + " -m transport -C deflate;\n";
        if (!p.ah.empty())
            out += "add " + from + " " + to + " ah " + spi + " -m transport -r 64 " + p.ah + ";\n";
        return out;
    };
    const auto rule = [&](bool a_to_b) {
        const std::string from = (a_to_b ? p.inner.a : p.inner.b).text() + (a_to_b ? "" : p.port);
        const std::string to = (a_to_b ? p.inner.b : p.inner.a).text() + (a_to_b ? p.port : "");
        const std::string path = p.tunnel ? (a_to_b ? a + "-" + b : b + "-" + a) : "";
        return "spdadd " + from + " " + to + " " + p.upper + " -P " + (a_to_b == for_a ? "out" : "in") + " ipsec" +
               (p.compressed ? " ipcomp/transport//" + p.level : "") + " esp/" + mode + "/" + path + "/" + p.level +
               (p.ah.empty() ? "" : " ah/transport//" + p.level) + ";\n";
    };
    return sa(a, b, "0x1001") + sa(b, a, "0x1002") + rule(true) + rule(false);
}

Sniffed look(Bytes frame)
{
    Sniffed s;
    if (frame.size() < 14)
        return s;
    const auto type = wire::field<std::uint16_t>(frame, 12);
    if (type != 0x0800 && type != 0x86dd)
        return s;
    s.ip = true;
    const auto ip = frame.subspan(14);
    const auto packet = parse_packet(ip);
    if (!packet)
        return s;
    s.ip_size = packet->total;
    s.source = packet->source;
    s.destination = packet->destination;
    s.fragment = packet->is_fragment;
    s.esp = packet->protocol == ip_proto::esp;
    const auto type_code = packet->flow.source_port;
    s.link_control = packet->protocol == ip_proto::igmp ||
                     (packet->protocol == ip_proto::icmpv6 && packet->flow.has_ports &&
                      ((type_code >= 130 && type_code <= 137) || type_code == 143));
    return s;
}

}  // namespace latchkey::sim
