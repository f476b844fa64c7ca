// SPDX-License-Identifier: BSD-2-Clause
#include "stack/options.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <unistd.h>

namespace latchkey {

namespace {

using Failure = std::unexpected<std::string>;

// The words that follow an option, one at a time.
class Arguments {
public:
    explicit Arguments(std::span<char* const> all) : rest_(all) {}
    bool empty() const { return rest_.empty(); }
    std::string_view peek() const { return rest_.empty() ? std::string_view{} : rest_.front(); }
    std::string_view take()
    {
        const std::string_view word = rest_.front();
        rest_ = rest_.subspan(1);
        return word;
    }

private:
    std::span<char* const> rest_;
};

template <class T> bool number(std::string_view text, T low, T high, T& out)
{
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc{} && end == text.data() + text.size() && !text.empty() && out >= low && out <= high;
}

std::optional<MacAddress> parse_mac(std::string_view text)
{
    MacAddress mac{};
    for (std::size_t i = 0; i < mac.size(); ++i) {
        const auto part = text.substr(0, text.find(':'));
        const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), mac[i], 16);
        if (error != std::errc{} || end != part.data() + part.size() || part.size() > 2)
            return std::nullopt;
        if (part.size() == text.size())
            return i + 1 == mac.size() && (mac[0] & 1) == 0 ? std::optional(mac) : std::nullopt;
        text.remove_prefix(part.size() + 1);
    }
    return std::nullopt;
}

// Each option: name, placeholder, help, and what it does with its value. Returns an error text or nothing.
struct Option {
    std::string_view name, value, help;
    std::string (*apply)(DaemonOptions&, std::string_view value, Arguments& rest);
};

std::string need_wire(const DaemonOptions& options)
{
    return options.wires.empty() ? "must come after the --wire that it belongs to" : "";
}

std::string set_wire(DaemonOptions& o, std::string_view value, Arguments&)
{
    auto spec = parse_wire_spec(value);
    if (!spec)
        return spec.error();
    o.wires.push_back(std::move(*spec));
    o.host.interfaces.emplace_back();
    return {};
}

std::string set_address(DaemonOptions& o, std::string_view value, Arguments&)
{
    const auto prefix = Prefix::parse(value);
    if (!prefix || value.find('/') == value.npos)   // a forgotten length is not /32
        return "expected ADDRESS/LENGTH, for example 10.0.0.1/24 or fd00::1/64";
    if (auto wrong = need_wire(o); !wrong.empty())
        return wrong;
    o.host.interfaces.back().addresses.push_back(*prefix);
    return {};
}

std::string set_route(DaemonOptions& o, std::string_view value, Arguments& rest)
{
    RouteConfig route;
    while (rest.peek() == "via" || rest.peek() == "dev") {
        const bool via = rest.take() == "via";
        if (rest.empty())
            return via ? "expected an address after `via`" : "expected an interface after `dev`";
        if (via) {
            const auto gateway = Address::parse(rest.peek());
            if (!gateway)
                return "expected an address after `via`, got `" + std::string(rest.peek()) + "`";
            route.gateway = *gateway;
        } else {
            route.interface = rest.peek();
        }
        rest.take();
    }
    const auto prefix = value == "default" ? Prefix{Address::any(route.gateway.is_v6() ? Family::v6 : Family::v4), 0}
                                           : Prefix::parse(value).value_or(Prefix{});
    if (prefix.address.family() == Family::none)
        return "expected PREFIX via ADDRESS, for example 10.1.0.0/16 via 10.0.0.254";
    if (route.gateway.family() == Family::none && route.interface.empty())
        return "expected `via ADDRESS` or `dev INTERFACE` after the prefix";
    route.destination = prefix;
    o.host.routes.push_back(std::move(route));
    return {};
}

std::string set_mtu(DaemonOptions& o, std::string_view value, Arguments&)
{
    std::size_t mtu = 0;
    if (!number<std::size_t>(value, 576, 9216, mtu))
        return "expected a number from 576 to 9216";
    if (auto wrong = need_wire(o); !wrong.empty())
        return wrong;
    o.host.interfaces.back().mtu = mtu;
    return {};
}

std::string set_mac(DaemonOptions& o, std::string_view value, Arguments&)
{
    const auto mac = parse_mac(value);
    if (!mac)
        return "expected a unicast MAC address such as 02:00:00:00:00:01";
    if (auto wrong = need_wire(o); !wrong.empty())
        return wrong;
    o.host.interfaces.back().mac = mac;
    return {};
}

std::string set_pcap(DaemonOptions& o, std::string_view value, Arguments&)
{
    if (auto wrong = need_wire(o); !wrong.empty())
        return wrong;
    o.wires.back().pcap = value;
    return {};
}

std::string set_ready_fd(DaemonOptions& o, std::string_view value, Arguments&)
{
    return number(value, 0, 1 << 20, o.ready_fd) ? "" : "expected the number of an open file descriptor";
}

std::string set_tunable(DaemonOptions& o, std::string_view value, Arguments&)
{
    if (value.find('=') == value.npos)
        return "expected NAME=VALUE";
    o.tunables.emplace_back(value);
    return {};
}

using D = DaemonOptions;
// clang-format off
constexpr Option table[] = {
    {"--socket", "PATH", "where clients reach this host (default: $LATCHKEY, or latchkey.sock in\n"
                         "$XDG_RUNTIME_DIR, for root in /run/latchkey)",
     [](D& o, std::string_view v, Arguments&) { o.socket = v; return std::string(v.empty() ? "expected a path" : ""); }},
    {"--wire", "SPEC", "a network interface: tap:NAME (a TAP device, made if absent), or unix:DIR (a\n"
                       "virtual Ethernet segment of all hosts that name the same directory; no root\n"
                       "needed). Options follow after commas: pcap=FILE, loss=PERCENT,\n"
                       "duplicate=PERCENT, reorder=PERCENT, corrupt=PERCENT, seed=N. May be repeated;\n"
                       "the interfaces are called net0, net1, ...", set_wire},
    {"--address", "ADDR/LEN", "an address of the --wire before it; may be repeated", set_address},
    {"--mtu", "N", "MTU of the --wire before it, 576 to 9216 (default 1500)", set_mtu},
    {"--mac", "MAC", "MAC address of the --wire before it (default: random)", set_mac},
    {"--pcap", "FILE", "record the frames of the --wire before it", set_pcap},
    {"--route", "PREFIX via ADDR", "a route (`default` is 0.0.0.0/0 or ::/0); `dev NAME` instead of, or after, via", set_route},
    {"--forward", "", "forward packets between interfaces",
     [](D& o, std::string_view, Arguments&) { o.host.forwarding = true; return std::string(); }},
    {"--setkey", "FILE", "load this setkey(8) script before the host is ready",
     [](D& o, std::string_view v, Arguments&) { o.setkey = v; return std::string(v.empty() ? "expected a file" : ""); }},
    {"--sysctl", "NAME=VALUE", "set a tunable, for example net.inet.ipsec.dfbit=2; may be repeated", set_tunable},
    {"--name", "NAME", "the host's name (default latchkey)",
     [](D& o, std::string_view v, Arguments&) { o.host.name = v; return std::string(v.empty() ? "expected a name" : ""); }},
    {"--foreground", "", "stay in the foreground and say `ready` on standard output (default: go to the\n"
                         "background; the command returns when the host is ready)",
     [](D& o, std::string_view, Arguments&) { o.foreground = true; return std::string(); }},
    {"--ready-fd", "FD", "also write a line to this descriptor and close it when the host is ready", set_ready_fd},
    {"--help", "", "show this text",
     [](D& o, std::string_view, Arguments&) { o.action = D::Action::help; return std::string(); }},
    {"--version", "", "show the version",
     [](D& o, std::string_view, Arguments&) { o.action = D::Action::version; return std::string(); }},
};
// clang-format on

}  // namespace

std::expected<DaemonOptions, std::string> parse_options(std::span<char* const> arguments)
{
    DaemonOptions options;
    Arguments rest(arguments);
    while (!rest.empty()) {
        const std::string_view word = rest.take();
        const auto equals = word.find('=');
        const auto name = word == "-h" ? "--help" : word.substr(0, equals);
        const auto* option = std::find_if(std::begin(table), std::end(table), [&](const Option& o) { return o.name == name; });
        if (option == std::end(table))
            return Failure("unknown argument `" + std::string(word) + "`; --help lists them");
        std::string_view value;
        if (option->value.empty()) {
            if (equals != word.npos)
                return Failure(std::string(name) + " takes no value");
        } else if (equals != word.npos) {
            value = word.substr(equals + 1);
        } else {
            if (rest.empty())
                return Failure(std::string(name) + " needs a value: " + std::string(option->value));
            value = rest.take();
        }
        if (const auto wrong = option->apply(options, value, rest); !wrong.empty())
            return Failure(std::string(name) + (value.empty() ? "" : " " + std::string(value)) + ": " + wrong);
        if (options.action != DaemonOptions::Action::run)
            return options;
    }
    if (options.wires.empty())
        return Failure("no --wire: a host needs at least one, for example --wire unix:/tmp/lan");
    return options;
}

std::string options_help()
{
    std::string out = "usage: latchkeyd --wire SPEC --address ADDR/LEN [...] [options]\n"
                      "One Latchkey host: a TCP/IP stack with IPsec in one process.\n\n";
    for (const auto& option : table) {
        std::string head = "  " + std::string(option.name) + (option.value.empty() ? "" : " " + std::string(option.value));
        head.resize(std::max<std::size_t>(head.size() + 2, 24), ' ');
        for (auto text = option.help; !text.empty();) {
            const auto line = text.substr(0, text.find('\n'));
            out += head + std::string(line) + "\n";
            head.assign(24, ' ');
            text.remove_prefix(std::min(text.size(), line.size() + 1));
        }
    }
    out += "\nExit status: 0 after a clean shutdown (SIGTERM, SIGINT), 1 when the host cannot start, 2 for bad arguments.\n";
    return out;
}

std::string default_socket_path()
{
    if (const char* path = std::getenv("LATCHKEY"); path != nullptr && *path != '\0')
        return path;
    if (geteuid() == 0)
        return "/run/latchkey/latchkey.sock";
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    return runtime != nullptr && *runtime != '\0' ? std::string(runtime) + "/latchkey.sock" : std::string();
}

}  // namespace latchkey
