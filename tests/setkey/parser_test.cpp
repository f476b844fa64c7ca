// SPDX-License-Identifier: BSD-2-Clause
#include "script.hpp"

#include "setkey/protocols.hpp"

using namespace latchkey;
using namespace latchkey::setkey;
using namespace latchkey::setkey::test;

namespace {

// The error of a script that must have one.
std::string error(std::string_view text)
{
    return parse(text).error;
}

SaSpec sa(std::string_view text)
{
    auto parsed = parse(text);
    CHECK(parsed.error == "");
    REQUIRE(parsed.commands.size() == 1);
    return std::move(std::get<SaSpec>(parsed.commands[0].body));
}

PolicySpec policy(std::string_view text)
{
    auto parsed = parse(text);
    CHECK(parsed.error == "");
    REQUIRE(parsed.commands.size() == 1);
    return std::move(std::get<PolicySpec>(parsed.commands[0].body));
}

std::string hex(const SecretBytes& key)
{
    std::string out;
    for (const auto byte : key.bytes()) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", byte);
        out += two;
    }
    return out;
}

}  // namespace

TEST_CASE("every verb is read")
{
    for (const auto& row : verb_words) {
        CAPTURE(row.word);
        std::string rest;
        switch (row.verb) {
        case Verb::add:
        case Verb::update: rest = " 10.0.0.1 10.0.0.2 esp 256 -E null"; break;
        case Verb::getspi:
        case Verb::get:
        case Verb::erase: rest = " 10.0.0.1 10.0.0.2 esp 256"; break;
        case Verb::erase_all: rest = " 10.0.0.1 10.0.0.2 esp"; break;
        case Verb::spd_add:
        case Verb::spd_update:
        case Verb::spd_erase: rest = " 10.0.0.1 10.0.0.2 any -P out"; break;
        default: break;
        }
        const auto parsed = parse(std::string(row.word) + rest + ";");
        CHECK(parsed.error == "");
        REQUIRE(parsed.commands.size() == 1);
        CHECK(parsed.commands[0].verb == row.verb);
    }
}

TEST_CASE("layout does not matter: one command over many lines, many on one, empty ones, comments anywhere")
{
    const auto parsed = parse("#!/usr/sbin/setkey -f\n;; flush;spdflush\n;\n"
                              "add # from\n 10.0.0.1 # to\n\t10.0.0.2\resp\n0x100 -E null# none\n;\n"
                              "spdadd 10.0.0.0 /24 [ any ] 10.1.0.0/ 24 [80] tcp -P out # a comment; with a mark\n"
                              "  ipsec esp/transport//require # inner\n ah/transport//require\n;exit;");
    CHECK(parsed.error == "");
    REQUIRE(parsed.commands.size() == 5);
    CHECK(parsed.commands[2].offset == 42);
    const auto& spec = std::get<PolicySpec>(parsed.commands[3].body);
    CHECK(spec.source.prefix_length == 24);
    CHECK(spec.destination.addresses[0].port == 80);
    CHECK(spec.policy.requests.size() == 2);
    CHECK(parse("").commands.empty());
    CHECK(parse(" # nothing").commands.empty());
}

TEST_CASE("commands: what is expected and what was meant")
{
    CHECK(error("ad 1 2;") == "1:1: expected a command, got 'ad' (did you mean 'add'?)");
    CHECK(error("flush;\n  spddelet a b;") == "2:3: expected a command, got 'spddelet' (did you mean 'spddelete'?)");
    CHECK(error("\"add\";") == "1:1: expected a command, got a quoted string");
    CHECK(error("flush") == "1:6: expected a security protocol or ';', got the end of the input");
    CHECK(error("flush udp;") == "1:7: expected a security protocol or ';', got 'udp'");
    CHECK(error("flush eps;") == "1:7: expected a security protocol or ';', got 'eps' (did you mean 'esp'?)");
    CHECK(error("spdflush esp;") == "1:10: expected ';', got 'esp'");
    CHECK(error("exit now;") == "1:6: expected ';', got 'now'");
    CHECK(error("add\x01") == "1:4: expected an address or a host name, got '\\x01'");
}

TEST_CASE("addresses and ports")
{
    CHECK(error("add 10.0.0.1;") == "1:13: expected an address or a host name, got ';'");
    CHECK(error("add -x 10.0.0.1 10.0.0.2 esp 1;") == "1:5: expected an address or a host name, got '-x'");
    CHECK(error("add nowhere 10.0.0.2 esp 256 -E null;") == "1:5: no address is known for host name 'nowhere'");
    CHECK(error("add -n both 10.0.0.2 esp 256 -E null;") == "1:8: expected an address, got 'both'");
    CHECK(error("add -6 10.0.0.1 10.0.0.2 esp 256;") == "1:8: '10.0.0.1' is no IPv6 address");
    CHECK(error("add -4 fd00::1 fd00::2 esp 256;") == "1:8: 'fd00::1' is no IPv4 address");
    CHECK(error("add 10.0.0.1 fd00::1 esp 256;") == "1:14: source and destination have no address family in common");
    CHECK(error("add 10.0.0.1[70000] 10.0.0.2 esp 256;") ==
          "1:14: '70000' is too big: a port, a service name or 'any' is at most 65535");
    CHECK(error("add 10.0.0.1[gopher] 10.0.0.2 esp 256;") ==
          "1:14: expected a port, a service name or 'any', got 'gopher'");
    CHECK(error("add 10.0.0.1[1-2] 10.0.0.2 esp 256;") ==
          "1:14: expected one port or 'any' (PF_KEY has no port ranges), got '1-2'");
    CHECK(error("add 10.0.0.1[\"80\"] 10.0.0.2 esp 256;") ==
          "1:14: expected a port, a service name or 'any', got a quoted string");
    CHECK(error("spdadd 10.0.0.1-10.0.0.9 10.0.1.1 any -P out none;") ==
          "1:8: expected one address, or ADDRESS/LENGTH for many (PF_KEY has no other ranges), "
          "got '10.0.0.1-10.0.0.9'");
    CHECK(sa("get 10.0.0.1[http] 10.0.0.2 esp 256;").sources[0].port == 80);
    CHECK(policy("spdadd 10.0.0.1 10.0.0.2[http] tcp -P out none;").destination.addresses[0].port == 80);
    CHECK(error("add 10.0.0.1[80 10.0.0.2 esp 256;") == "1:17: expected ']', got '10.0.0.2'");
    CHECK(error("get fe80::1%nosuchif0 fe80::2 esp 256;") ==
          "1:5: no address is known for host name 'fe80::1%nosuchif0'");
    CHECK(sa("get -64n 10.0.0.1 10.0.0.2 esp 256;").sources[0].address.text() == "10.0.0.1");
    CHECK(sa("get -4 -n 10.0.0.1 10.0.0.2 esp 256;").spi == 256);
    CHECK(sa("get -46 both both esp 256;").sources.size() == 3);
    CHECK(sa("get -6 -4 both both esp 256;").sources.size() == 3);
    CHECK(sa("get -4 both both esp 256;").sources.size() == 2);
    CHECK(sa("get 10.0.0.1[any] 10.0.0.2[ 500 ] esp 256;").destinations[0].port == 500);
}

TEST_CASE("protocol and SPI")
{
    CHECK(error("add 10.0.0.1 10.0.0.2 tcpp 256;") ==
          "1:23: expected a security protocol, got 'tcpp' (did you mean 'tcp'?)");
    CHECK(error("get 10.0.0.1 10.0.0.2 esp;") == "1:26: expected an SPI, got ';'");
    CHECK(error("get 10.0.0.1 10.0.0.2 esp 0x;") == "1:27: expected an SPI, got '0x'");
    CHECK(error("get 10.0.0.1 10.0.0.2 esp 12ab;") == "1:27: expected an SPI, got '12ab'");
    CHECK(error("get 10.0.0.1 10.0.0.2 esp 0x100000000;") == "1:27: SPI too big: it has 32 bits");
    CHECK(error("get 10.0.0.1 10.0.0.2 esp 99999999999999999999999;") == "1:27: SPI too big: it has 32 bits");
    CHECK(error("get 10.0.0.1 10.0.0.2 ipcomp 65536;") == "1:30: SPI too big: the CPI of ipcomp has 16 bits");
    CHECK(sa("get 10.0.0.1 10.0.0.2 esp 0xffffffff;").spi == 0xffffffff);
    CHECK(sa("get 10.0.0.1 10.0.0.2 ah 4294967295;").spi == 0xffffffff);
    CHECK(sa("add 10.0.0.1 10.0.0.2 esp-udp fd00::1 256 -E null;").natt->original->address.text() == "fd00::1");
    CHECK_FALSE(sa("add 10.0.0.1 10.0.0.2 esp-udp 256 -E null;").natt->original);
    CHECK(error("add 10.0.0.1 10.0.0.2 esp-udp both 256 -E null;") ==
          "1:31: 'both' has 3 addresses, esp-udp takes one (-4 and -6 choose a family)");
}

TEST_CASE("options of an SA")
{
    const std::string add = "add 10.0.0.1 10.0.0.2 esp 256 ";   // 30 columns
    CHECK(error(add + "-m tunel -E null;") ==
          "1:34: expected a mode, got 'tunel' (did you mean 'tunnel'?)");
    CHECK(error(add + "-u 4294967296;") == "1:34: '4294967296' is too big: a request id is at most 4294967295");
    CHECK(error(add + "-u -E;") == "1:34: expected a request id, got '-E'");
    CHECK(error(add + "-r x;") == "1:34: expected a replay window in packets, got 'x'");
    CHECK(error(add + "-f nopad;") == "1:34: expected a flag, got 'nopad'");
    CHECK(error(add + "-lh;") == "1:34: expected a number of seconds, got ';'");
    CHECK(error(add + "-bs many;") == "1:35: expected a number of bytes, got 'many'");
    CHECK(error(add + "-X;") ==
          "1:31: expected an option, an algorithm or ';', got '-X'");
    CHECK(error("getspi 10.0.0.1 10.0.0.2 esp 256 -E null;") == "1:34: expected an option or ';', got '-E'");
    CHECK(error("add 10.0.0.1 10.0.0.2 esp-old 256 -r 4 -E null;") ==
          "1:35: -r does not go with esp-old: it has no sequence numbers");
    CHECK(sa(add + "-f random-pad -f seq-pad -E null;").flags == SADB_X_EXT_CYCSEQ);
    CHECK(sa(add + "-f random-pad -E null;").flags == (SADB_X_EXT_CYCSEQ | SADB_X_EXT_PRAND));
    CHECK(sa(add + "-bh 18446744073709551615 -E null;").hard.bytes == 18446744073709551615u);
    CHECK(sa(add + "-E null -m transport -A hmac-md5 \"1234567890123456\";").mode == Mode::transport);
}

TEST_CASE("options are suggested as well")
{
    const std::string add = "add 10.0.0.1 10.0.0.2 esp 256 ";
    CHECK(error(add + "-nat 1;") ==
          "1:31: expected an option, an algorithm or ';', got '-nat' (did you mean '-natt'?)");
    CHECK(error(add + "-h 1;") == "1:31: expected an option, an algorithm or ';', got '-h' (did you mean '-lh'?)");
    CHECK(error(add + "-f no-cyclic-seq;") ==
          "1:34: expected a flag, got 'no-cyclic-seq' (did you mean 'nocyclic-seq'?)");
}

TEST_CASE("get and delete take the options of their SA, as those of the BSDs do, but no keys")
{
    CHECK(sa("get ::1 ::2 esp 256 -m tunnel -u 3;").mode == Mode::tunnel);
    CHECK(sa("delete ::1 ::2 esp 256 -f nocyclic-seq;").flags == 0);
    CHECK(error("get ::1 ::2 esp 256 -E null;") == "1:21: expected an option or ';', got '-E'");
    CHECK(error("deleteall ::1 ::2 esp -m any;") == "1:23: expected ';', got '-m'");
    CHECK(error("delete both 10.0.0.1 esp 256;") ==
          "1:8: the name has several addresses, 'delete' takes one (-4 and -6 choose a family)");
    CHECK(error("delete 10.0.0.1 both esp 256;").starts_with("1:17: the name has several addresses"));
    CHECK(sa("get both 10.0.0.1 esp 256;").sources.size() == 3);
}

TEST_CASE("extended sequence numbers")
{
    const std::string key = " -A hmac-sha1 \"12345678901234567890\";";
    CHECK(sa("add ::1 ::2 ah 256 -esn" + key).flags == (SADB_X_EXT_CYCSEQ | SADB_X_SAFLAGS_ESN));
    CHECK(sa("add ::1 ::2 ah 256 -f esn -f nocyclic-seq" + key).flags == SADB_X_SAFLAGS_ESN);
    CHECK(error("add ::1 ::2 ah-old 256 -esn" + key) ==
          "1:13: extended sequence numbers (ESN) do not go with ah-old");
    CHECK(error("add ::1 ::2 ipcomp 256 -esn -C deflate;") ==
          "1:13: extended sequence numbers (ESN) do not go with ipcomp");
}

TEST_CASE("-natt: the addresses before NAT and the UDP ports (FreeBSD)")
{
    const std::string add = "add 192.0.2.1 192.0.2.2 esp 256 ";   // 32 columns
    for (const std::string word : {"-natt", "-N"}) {
        const auto spec = sa(add + word + " 10.0.0.1[4501] 10.0.0.2 [4502] -natt_mtu 552 -E null;");
        REQUIRE(spec.natt);
        CHECK(spec.natt->original->text() == "10.0.0.1:4501");
        CHECK(spec.natt->original_remote->text() == "10.0.0.2:4502");
        CHECK(spec.natt->fragment == 552);
    }
    CHECK(sa(add + "-natt-mtu 500 -natt ::1[1] ::2[2] -E null;").natt->fragment == 500);
    CHECK(sa("add ::1 ::2 esp-udp 256 -natt_mtu 500 -E null;").natt->fragment == 500);
    CHECK(error(add + "-natt 10.0.0.1[4501];") == "1:53: expected an address or a host name, got ';'");
    CHECK(error(add + "-natt 10.0.0.1[1] 10.0.0.2[2] -natt 10.0.0.1[1] 10.0.0.2[2] -E null;") ==
          "1:63: -natt is given twice");
    CHECK(error(add + "-natt_mtu 500 -E null;") == "1:33: -natt_mtu goes with -natt or esp-udp");
    CHECK(error(add + "-natt_mtu 70000;") == "1:43: '70000' is too big: a size in bytes is at most 65535");
    CHECK(error("add ::1 ::2 ah 256 -natt ::1[1] ::2[2] -A null;") ==
          "1:20: NAT traversal does not go with ah, only with esp");
    CHECK(error("add ::1 ::2 esp-udp 256 -natt ::1[1] ::2[2] -E null;") ==
          "1:25: -natt does not go with esp-udp, which has its ports at the addresses of the SA");
}

TEST_CASE("-hwif is read and noted: there is no such hardware")
{
    for (const std::string text : {"add ::1 ::2 esp 256 -hwif em0 -E null;",
                                   "spdadd ::1 ::2 any -hwif em0 -P out none;",
                                   "spdadd ::1 ::2 any -P out none -hwif em0;",
                                   "spdadd ::1 ::2 any -P out ipsec\n esp/transport//require # -hwif\n -hwif em0 ;"}) {
        CAPTURE(text);
        const auto parsed = parse(text);
        CHECK(parsed.error == "");
        REQUIRE(parsed.commands.size() == 1);
        REQUIRE(parsed.commands[0].notes.size() == 1);
        CHECK(parsed.commands[0].notes[0].offset == text.rfind("-hwif"));
    }
    CHECK(error("add ::1 ::2 esp 256 -hwif;") == "1:26: expected the name of an interface, got ';'");
    CHECK(error("spdadd ::1 ::2 any -P out none -hwif;") == "1:37: expected the name of an interface, got ';'");
    CHECK(error("spdadd ::1 ::2 any -P out none -hwif em0 em1;") == "1:42: expected ';', got 'em1'");
}

TEST_CASE("algorithms by every name of the table, and their order")
{
    for (const auto& row : algorithms)
        if (row.kind == AlgorithmKind::auth && row.key_min == 128) {
            CAPTURE(row.name);
            CHECK(sa("add ::1 ::1 ah 256 -A " + std::string(row.name) + " \"1234567890123456\";").auth == &row);
        }
    CHECK(sa("add ::1 ::1 esp 256 -E rijndael-cbc \"1234567890123456\" -A hmac-sha2-256 "
             "\"12345678901234567890123456789012\";")
              .auth->name == "hmac-sha256");
    CHECK(sa("add ::1 ::1 esp 256 -A null -E aes-cbc \"1234567890123456\";").cipher->name == "aes-cbc");
}

TEST_CASE("algorithms: errors")
{
    const std::string add = "add 10.0.0.1 10.0.0.2 esp 256 ";
    CHECK(error(add + "-E aes_cbc \"x\";") ==
          "1:34: expected an encryption algorithm, got 'aes_cbc' (did you mean 'aes-cbc'?)");
    CHECK(error(add + "-E hmac-sha1 \"x\";").starts_with("1:34: expected an encryption algorithm, got 'hmac-sha1'"));
    CHECK(error(add + "-E null -A hmac-sha \"x\";") ==
          "1:42: expected an authentication algorithm, got 'hmac-sha' (did you mean 'hmac-sha1'?)");
    CHECK(error("add ::1 ::1 ipcomp 256 -C zip;") == "1:27: expected a compression algorithm, got 'zip'");
    CHECK(error(add + "-E null -E null;") == "1:39: -E is given twice");
    CHECK(error(add + "-E null -A null -A null;") == "1:47: -A is given twice");
    CHECK(error("add ::1 ::1 ipcomp 256 -C deflate -C deflate;") == "1:35: -C is given twice");
    CHECK(error(add + "-E des-32iv \"12345678\";") == "1:34: des-32iv goes with esp-old only");
    CHECK(error("add ::1 ::1 esp-old 256 -E des-deriv \"12345678\";") == "1:28: des-deriv does not go with esp-old");
    CHECK(error(add + "-A hmac-md5 \"1234567890123456\";") ==
          "1:23: esp needs -E (-E null for authentication alone)");
    CHECK(error("add ::1 ::1 ah 256;") == "1:13: ah needs -A");
    CHECK(error("add ::1 ::1 ipcomp 256;") == "1:13: ipcomp needs -C");
    CHECK(error("add ::1 ::1 ah 256 -E null;") == "1:20: ah does not take -E");
    CHECK(error("add ::1 ::1 ipcomp 256 -C deflate -A null;") == "1:35: ipcomp does not take -A");
    CHECK(error("add ::1 ::1 ah 256 -A null -C deflate;") == "1:28: ah does not take -C");
    CHECK(error("add ::1 ::1 esp 256 -E aes-gcm-16 \"12345678901234567890\" -A hmac-md5 \"1234567890123456\";") ==
          "1:58: aes-gcm-16 authenticates by itself: -A does not go with it");
    CHECK(error("add ::1 ::1 ah 256 -A tcp-md5 \"key\";") == "1:20: tcp-md5 does not go with ah");
    CHECK(error("add ::1 ::1 tcp 256 -A hmac-md5 \"1234567890123456\";") == "1:21: hmac-md5 does not go with tcp");
}

TEST_CASE("keys: text, hexadecimal, an odd digit first, marks and lines inside quotes")
{
    const std::string ah = "add ::1 ::1 ah 256 -A hmac-md5 ";
    CHECK(hex(sa(ah + "\"1234567890abcdef\";").auth_key) == "31323334353637383930616263646566");
    CHECK(hex(sa(ah + "\"a;#b\n7890[]/ 45 \";").auth_key) == "613b23620a373839305b5d2f20343520");
    CHECK(hex(sa(ah + "0x000102030405060708090A0b0C0d0E0f;").auth_key) == "000102030405060708090a0b0c0d0e0f");
    CHECK(hex(sa(ah + "0Xf0102030405060708090a0b0c0d0e0f;").auth_key) == "0f0102030405060708090a0b0c0d0e0f");
}

TEST_CASE("keys: errors name the place and what is allowed, and never show the key")
{
    const std::string add = "add 10.0.0.1 10.0.0.2 esp 256 -E ";   // 33 columns
    CHECK(error(add + "aes-cbc \"12345678901234567\";") ==
          "1:42: Invalid key length: aes-cbc wants 128, 192 or 256 bits, got 136");
    CHECK(error(add + "aes-cbc \"12345678\n\";") ==
          "1:42: Invalid key length: aes-cbc wants 128, 192 or 256 bits, got 72 (is its closing quote missing?)");
    CHECK(error(add + "aes-cbc \"\";") == "1:42: Invalid key length: aes-cbc wants 128, 192 or 256 bits, got 0");
    CHECK(error(add + "3des-cbc 0x00;") == "1:43: Invalid key length: 3des-cbc wants 192 bits, got 8");
    CHECK(error(add + "blowfish-cbc \"1234\";") ==
          "1:47: Invalid key length: blowfish-cbc wants 40 to 448 bits in steps of 8, got 32");
    CHECK(error(add + "aes-ctr \"1234567890123456\";") ==
          "1:42: Invalid key length: aes-ctr wants 160, 224 or 288 bits, got 128");
    CHECK(error(add + "aes-cbc \"" + std::string(8192 + 16, 'k') + "\";") ==
          "1:42: Invalid key length: aes-cbc wants 128, 192 or 256 bits, got 65664");
    CHECK(error(add + "aes-cbc;") == "1:41: expected a key, \"TEXT\" or 0xHEX, got ';'");
    CHECK(error(add + "aes-cbc 1234567890123456;") ==
          "1:42: expected a key, \"TEXT\" or 0xHEX, got '1234567890123456'");
    CHECK(error(add + "aes-cbc 0x12g4;") == "1:46: expected a hexadecimal digit in the key");
    CHECK(error(add + "aes-cbc \"1234567890;") ==
          "1:42: expected a key, \"TEXT\" or 0xHEX, got a quoted string without its closing quote");
}

TEST_CASE("null takes no key, or an empty one")
{
    const std::string add = "add ::1 ::1 esp 256 -E null ";
    CHECK(sa(add + ";").cipher_key.empty());
    CHECK(sa(add + "\"\";").cipher_key.empty());
    CHECK(sa(add + "\"\" -A null \"\";").auth_key.empty());
    CHECK(error(add + "\"x\";") == "1:29: expected no key (null takes none), got one");
    CHECK(error(add + "0x00;") == "1:29: expected no key (null takes none), got one");
}

TEST_CASE("selectors: errors")
{
    CHECK(error("spdadd 10.0.0.0/33 10.0.0.1 any -P out none;") == "1:16: /33 is too long: 10.0.0.0 has 32 bits");
    CHECK(error("spdadd ::/129 ::1 any -P out none;") == "1:11: '129' is too big: a prefix length is at most 128");
    CHECK(error("spdadd 10.0.0.0/x 10.0.0.1 any -P out none;") == "1:17: expected a prefix length, got 'x'");
    CHECK(error("spdadd 10.0.0.1 ::1 any -P out none;") ==
          "1:17: source and destination have no address family in common");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 tpc -P out none;") ==
          "1:26: expected an upper-layer protocol, a number up to 255 or 'any', got 'tpc' (did you mean 'tcp'?)");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 256 -P out none;")
              .starts_with("1:26: expected an upper-layer protocol, a number up to 255 or 'any', got '256'"));
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 -P out none;")
              .starts_with("1:26: expected an upper-layer protocol, a number up to 255 or 'any', got '-P'"));
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 icmp 8 -P out none;") == "1:31: expected TYPE,CODE or -P, got '8'");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 icmp 8, -P out none;") == "1:31: expected TYPE,CODE or -P, got '8,'");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 icmp 300,0 -P out none;") ==
          "1:31: '300,0' is too big: type and code are at most 255");
    CHECK(error("spdadd 10.0.0.1[1] 10.0.0.2 icmp 8,0 -P out none;") == "1:34: type and code do not go with ports");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 gre key -P out none;") == "1:30: expected a GRE key or -P, got 'key'");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 gre 0x100000000 -P out none;") ==
          "1:30: '0x100000000' is too big: a GRE key has 32 bits");
    CHECK(error("spdadd 10.0.0.1[1] 10.0.0.2 gre 5 -P out none;") == "1:33: a GRE key does not go with ports");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 tcp 5 -P out none;") == "1:30: expected -P and a policy, got '5'");
    CHECK(error("spdadd 10.0.0.1 10.0.0.2 any;") == "1:29: expected -P and a policy, got ';'");
    CHECK(error("spdadd both 10.0.0.2 any -P out none;") ==
          "1:8: 'both' has 3 addresses, a policy takes one (-4 and -6 choose a family)");
    CHECK(error("spdadd -6 both six any -P out none;") == "");
}

TEST_CASE("policies: the text behind -P")
{
    const auto spec = policy("spdadd 10.0.0.1 10.0.0.2 any -P out prio high + 10\n"
                             " ipsec esp/tunnel/10.1.0.1-10.1.0.2/unique:7;");
    CHECK(spec.policy.direction == IPSEC_DIR_OUTBOUND);
    CHECK(spec.policy.type == IPSEC_POLICY_IPSEC);
    CHECK(spec.policy.priority == 0x40000000 - 10);
    REQUIRE(spec.policy.requests.size() == 1);
    CHECK(spec.policy.requests[0].reqid == 7);
    CHECK(spec.policy.requests[0].tunnel_destination.text() == "10.1.0.2");
    CHECK(policy("spddelete 10.0.0.1 10.0.0.2 any -P fwd;").policy.direction == IPSEC_DIR_FWD);
}

TEST_CASE("policies: errors stand at their own line and column")
{
    const std::string add = "spdadd 10.0.0.1 10.0.0.2 any -P ";   // 32 columns
    for (const auto& [text, place] : std::vector<std::pair<std::string, std::string>>{
             {";", "1:33: "},
             {"sideways ipsec;", "1:33: "},
             {"out ipsek;", "1:37: "},
             {"out ipsec esp/transporter//require;", "1:47: "},
             {"out ipsec\n  esp/transport//must;", "2:18: "},
             {"out ipsec # a comment; here\n  esp/transport//must;", "2:18: "},
             {"out ipsec esp/tunnel/10.0.0.1-fd00::1/require;", "1:54: "},
         }) {
        CAPTURE(text);
        const auto message = error(add + text);
        CHECK(message.substr(0, place.size()) == place);
        CHECK(message.find("expected ") == place.size());
        CHECK(message.find(", got ") != message.npos);
    }
    const auto meant = [&](std::string_view text) {
        const auto message = error(add + std::string(text) + ";");
        const auto at = message.find(" (did you mean ");
        return at == message.npos ? std::string() : message.substr(at);
    };
    CHECK(meant("uot none") == " (did you mean 'out'?)");
    CHECK(meant("out discrad") == " (did you mean 'discard'?)");
    CHECK(meant("out ipsec epp/transport//require") == " (did you mean 'esp'?)");
    CHECK(meant("out ipsec esp/trasport//require") == " (did you mean 'transport'?)");
    CHECK(meant("out ipsec esp/transport//requre") == " (did you mean 'require'?)");
    CHECK(meant("out prio hihg none") == " (did you mean 'high'?)");
    CHECK(meant("out nonsense") == "");
    CHECK(error(add + "out ipsec esp/transport//require") == "1:65: expected ';', got the end of the input");
}

TEST_CASE("what is understood and refused")
{
    const auto refused = [](std::string_view text) {
        const Source source("", text);
        Parser parser(source, options());
        const auto command = parser.next();
        REQUIRE_FALSE(command.has_value());
        CHECK(command.error().kind == Diagnostic::Kind::refused);
        CHECK(parser.recover());
        CHECK(parser.next().value()->verb == Verb::flush);
        return source.where(command.error().offset).substr(1) + ": " + command.error().text;
    };
    CHECK(refused("spdadd tagged \"pf\" -P out ipsec esp/transport//require; flush;") ==
          "1:8: 'tagged' is not supported by this stack: it has no packet tags");
    CHECK(refused("spdupdate tagged \"pf\" -P in discard; flush;") ==
          "1:11: 'tagged' is not supported by this stack: it has no packet tags");
    CHECK(refused("add 10.0.0.1 10.0.0.2 esp 256 -ctx 1 1 \"label\" -E null; flush;") ==
          "1:31: -ctx is not supported by this stack: it has no security contexts");
    CHECK(refused("spdadd 10.0.0.1 10.0.0.2 any -ctx 1 1 \"label\" -P out none; flush;") ==
          "1:30: -ctx is not supported by this stack: it has no security contexts");
    const std::string tcp = "TCP-MD5 (RFC 2385) is not supported by this stack";
    CHECK(refused("add 10.1.10.34 10.1.10.36 tcp 0x1000 -A tcp-md5 \"TCP-MD5 BGP secret\"; flush;") == "1:27: " + tcp);
    CHECK(refused("delete ::1 ::2 tcp 0x1000; flush;") == "1:16: " + tcp);
    CHECK(refused("deleteall ::1 ::2 tcp; flush;") == "1:19: " + tcp);
    CHECK(refused("dump tcp; flush;") == "1:6: " + tcp);
    CHECK(refused("add ::1 ::2 esp 256 -E rc5-cbc \"any key\" -A hmac-md5 \"1234567890123456\"; flush;") ==
          "1:24: 'rc5-cbc' is not supported by this stack: it was withdrawn from IPsec");
    // What is wrong with the rest of such a command comes first.
    CHECK(error("add ::1 ::2 tcp 256 -A tcp-md5 \"\";").starts_with("1:32: Invalid key length: tcp-md5"));
    CHECK(error("add ::1 ::2 tcp 256 -m any") ==
          "1:27: expected an option, an algorithm or ';', got the end of the input");
    CHECK(error("spdadd tagged \"pf\" -P out ipsek;").starts_with("1:27: expected an action"));
    CHECK(error("add ::1 ::2 esp 256 -ctx 1 300 \"x\" -E null;") ==
          "1:28: '300' is too big: the algorithm of a security context is at most 255");
    CHECK(error("spdadd tagged pf -P out none;") == "1:15: expected a tag in quotes, got 'pf'");
    CHECK(error("spdadd tagged \"pf\" out none;") == "1:20: expected -P and a policy, got 'out'");
    CHECK(error("add ::1 ::1 esp 256 -ctx a 1 \"label\";") == "1:26: expected a domain of interpretation, got 'a'");
    CHECK(error("add ::1 ::1 esp 256 -ctx 1 1 label;") == "1:30: expected a security label in quotes, got 'label'");
}

namespace {

// The commands that are read from a text with errors in it.
std::string survivors(std::string_view text)
{
    const Source source("", text);
    std::string out;
    for (Parser parser(source, options());;) {
        const auto command = parser.next();
        if (command && !*command)
            return out;
        if (command)
            out.append(row_of((*command)->verb).word).append(" ");
        else if (out.append("? "); !parser.recover())
            return out + ".";
    }
}

}  // namespace

TEST_CASE("after an error the next command is read")
{
    CHECK(survivors("add nonsense; flush; bogus \"a;b\" x; spdflush;") == "? flush ? spdflush ");
    CHECK(survivors("spdadd ::1 ::2 any -P out ipsek # ; flush;\n; spdflush;") == "? spdflush ");
    CHECK(survivors("add ::1; flush") == "? ? .");
    CHECK(survivors("add ::1") == "? .");
}

TEST_CASE("a missing ';' or quote costs one command: the next that begins a line is read")
{
    CHECK(survivors("add ::1 ::2 esp 256 -E null\n  flush;\nspdflush;") == "? flush spdflush ");
    CHECK(survivors("spdadd ::1 ::2 any -P out none\nflush;") == "? flush ");
    CHECK(survivors("spdadd ::1 ::2 any -P\nflush;") == "? flush ");
    CHECK(survivors("bogus\n\n\t flush;") == "? flush ");
    CHECK(survivors("add ::1 ::2 ah 256 -A hmac-md5 \"1234567890123456;\nflush;\n"
                    "add ::1 ::2 ah 257 -A hmac-md5 \"1234567890123456\";\n") == "? flush add ");
    CHECK(survivors("add ::1 ::2 ah 256 -A hmac-md5 \"123;\nflush;") == "? flush ");
    // A word that only begins like a command, or that does not begin its line, is none.
    CHECK(survivors("bogus\nflushed x; flush;") == "? flush ");
    CHECK(survivors("bogus\nx flush; dump;") == "? dump ");
    // A key may well have such lines.
    CHECK(survivors("add ::1 ::2 ah 256 -A hmac-md5 \"1234\nflush;\n1234\"; dump;") == "add dump ");
}

TEST_CASE("a refused command is skipped up to its ';' and no further")
{
    CHECK(survivors("flush tcp; dump; spdadd tagged \"x\" -P out none; spddump; flush tcp") == "? dump ? spddump ? .");
}

TEST_CASE("how much of a growing text is whole commands")
{
    CHECK(complete_commands("") == 0);
    CHECK(complete_commands("flush") == 0);
    CHECK(complete_commands("flush; add 10") == 6);
    CHECK(complete_commands("flush; \"a;") == 6);
    CHECK(complete_commands("flush; # x;\n") == 6);
    CHECK(complete_commands("a \"b;c\" ; d; ") == 12);
}

TEST_CASE("every protocol that scripts name is known without /etc/protocols")
{
    // BSD's names and Linux' names, and their numbers at IANA.
    for (const auto& [word, number] : std::vector<std::pair<std::string, int>>{
             {"any", 255}, {"icmp", 1}, {"igmp", 2}, {"ipv4", 4}, {"ip4", 4}, {"ipencap", 4}, {"tcp", 6}, {"TCP", 6},
             {"udp", 17}, {"ipv6", 41}, {"gre", 47}, {"esp", 50}, {"ipsec-esp", 50}, {"ah", 51}, {"icmp6", 58},
             {"ipv6-icmp", 58}, {"IPv6-ICMP", 58}, {"ospf", 89}, {"ipip", 94}, {"etherip", 97}, {"pim", 103},
             {"ipcomp", 108}, {"carp", 112}, {"vrrp", 112}, {"l2tp", 115}, {"sctp", 132}, {"mh", 135}, {"udplite", 136},
             {"254", 254}}) {
        CAPTURE(word);
        CHECK(policy("spdadd ::1 ::2 " + word + " -P out none;").protocol == number);
    }
}

TEST_CASE("the table of upper-layer protocols has each number and word once")
{
    for (const auto& row : upper_protocols) {
        CAPTURE(row.name);
        CHECK(upper_protocol(row.name) == row.number);
        CHECK(upper_protocol_name(row.number) == row.name);
        for (std::string_view rest = row.aliases; !rest.empty();) {
            const auto word = rest.substr(0, rest.find(' '));
            CHECK(upper_protocol(word) == row.number);
            rest.remove_prefix(std::min(rest.size(), word.size() + 1));
        }
    }
    CHECK(upper_protocol_name(200) == "200");
    CHECK_FALSE(upper_protocol("nonsense"));
}

TEST_CASE("localhost is resolved through the system")
{
    const auto found = resolve_name("localhost", Family::v4);
    REQUIRE(found.size() == 1);
    CHECK(found[0].address.is_loopback());
    CHECK(resolve_name("no-such-host.invalid", Family::none).empty());
    CHECK_FALSE(resolve_service("no-such-service"));
    CHECK(resolve_service("443") == 443);   // needs no /etc/services
}

TEST_CASE("every form of the manual pages of KAME, the BSDs, ipsec-tools and QNX is read")
{
    for (const std::string command : {
             // SAs
             "add -4 10.0.0.1 10.0.0.2 ah 0x100 -m transport -r 4 -u 1 -f zero-pad -f nocyclic-seq -lh 100 -ls 80 "
             "-A keyed-md5 \"this is the test\"",
             "add -6n fd00::1 fd00::2 esp 100000 -m any -f random-pad -bh 1000 -bs 900 -E null -A null",
             "add -46 10.0.0.1[500] 10.0.0.2[any] esp 0x100 -f seq-pad -E simple",
             "add 10.0.0.1 10.0.0.2 esp-old 256 -m tunnel -E des-32iv \"12341234\"",
             "add 10.0.0.1 10.0.0.2 ah-old 256 -A hmac-sha1 0x0123456789abcdef0123456789abcdef01234567",
             "add 10.0.0.1[4500] 10.0.0.2[4500] esp-udp 10003 -E 3des-cbc \"123456789012123456789012\" "
             "-A hmac-md5 \"1234567890123456\"",
             "add 10.0.0.1[4500] 10.0.0.2[4500] esp-udp 192.168.0.1 10003 -E null",
             "add fd00::1 fd00::2 ipcomp 300 -C deflate -R",
             "add fd00::1 fd00::2 ipcomp 300 -C oui",
             "add fd00::1 fd00::2 ipcomp 300 -C lzs",
             "add 10.0.0.1 10.0.0.2 esp 256 -E twofish-cbc 0x00112233445566778899aabbccddeeff",
             "add 10.0.0.1 10.0.0.2 esp 256 -E aes-gmac \"12345678901234567890\"",
             "add 10.0.0.1 10.0.0.2 esp 256 -natt 10.1.0.1[4500] 10.1.0.2[4500] -natt_mtu 552 -esn -hwif ix0 "
             "-E aes-ctr \"12345678901234567890\" -A hmac-sha2-256 \"12345678901234567890123456789012\"",
             "update 10.0.0.1 10.0.0.2 esp 256 -E null",
             "getspi 10.0.0.1 10.0.0.2 esp 0 -m tunnel -u 3 -lh 30",
             "get 10.0.0.1 10.0.0.2 ah 123456",
             "get 10.0.0.1 10.0.0.2 ah 123456 -m tunnel",
             "delete 10.0.0.1 10.0.0.2 esp 256",
             "deleteall 10.0.0.1 10.0.0.2 esp",
             "deleteall -n fd00::1 fd00::2 ipcomp",
             "flush", "flush esp", "flush ah-old", "dump", "dump esp-udp", "exit", "quit", "bye",
             // policies
             "spdadd 10.0.11.41/32[21] 10.0.11.33/32[any] any -P out ipsec esp/tunnel/192.168.0.1-192.168.1.2/require",
             "spdadd ::/0 ::/0 icmp6 135,0 -P in none",
             "spdadd 0.0.0.0/0 0.0.0.0/0 icmp 8,0 -P in discard",
             "spdadd 0.0.0.0 0.0.0.0 gre 1234 -P out ipsec esp/transport//require",
             "spdadd 0.0.0.0 0.0.0.0 gre 1.2.3.4 -P fwd none",
             "spdadd 10.0.0.1[any] 10.0.0.2[80] 6 -P in prio low ipsec ah/transport//default",
             "spdadd 10.0.0.1 10.0.0.2 esp -P out priority -20 ipsec esp/transport/10.0.0.1-10.0.0.2/use",
             "spdadd 10.0.0.1 10.0.0.2 ip4 -P out prio high + 5 ipsec ipcomp/transport//use esp/transport//unique",
             "spdadd 10.0.0.1 10.0.0.2 ipv4 -P out prio def - 5 ipsec esp/transport//unique:77 ah/transport//require",
             "spdadd 10.0.0.1 10.0.0.2 any -P out prio 2147483648 none",
             "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/tunnel/10.0.0.1[4500]-10.0.0.2[4500]/require",
             "spdadd 10.0.0.1 10.0.0.2 any -P out entrust",
             "spdadd 10.0.0.1 10.0.0.2 any -P out",
             "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec",
             "spdupdate 10.0.0.1 10.0.0.2 any -P in bypass",
             "spddelete 10.0.0.1 10.0.0.2 any -P in",
             "spddelete -6 fd00::/64 fd00:1::/64[80] tcp -P out ipsec esp/transport//require",
             "spdflush", "spddump",
         }) {
        CAPTURE(command);
        const auto parsed = parse(command + ";");
        CHECK(parsed.error == "");
        CHECK(parsed.commands.size() == 1);
    }
}

TEST_CASE("the manual page knows every word of the language")
{
    std::ifstream in(LATCHKEY_TEST_DATA "/../../setkey/setkey.8");
    std::string man{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    REQUIRE_FALSE(man.empty());
    const auto begin = man.find("\n.Sh COMMANDS"), end = man.find("\n.Sh OUTPUT");
    REQUIRE(begin < end);
    man = man.substr(begin, end - begin);
    const auto knows = [&](std::string_view word) {
        for (auto at = man.find(word); at != man.npos; at = man.find(word, at + 1)) {
            const auto part = [&](std::size_t i) {
                return std::isalnum(static_cast<unsigned char>(man[i])) || man[i] == '-';
            };
            if (!part(at - 1) && !part(at + word.size()))
                return true;
        }
        return false;
    };
    for (const auto& row : verb_words)
        CHECK_MESSAGE(knows(row.word), row.word);
    for (const auto& row : setkey::sa_protocols)
        CHECK_MESSAGE(knows(row.word), row.word);
    for (const auto& row : mode_words)
        CHECK_MESSAGE(knows(row.word), row.word);
    for (const auto& row : algorithms) {
        // Of aes-ccm-8, -12, -16, which share a line, the first stands in full.
        const bool shares_a_line = row.name.ends_with("-12") || row.name.ends_with("-16");
        CHECK_MESSAGE((shares_a_line || knows(row.name)), row.name);
    }
    for (const std::string_view option : {"lh", "ls", "bh", "bs", "esn", "natt", "natt_mtu", "hwif", "ctx"})
        CHECK_MESSAGE(man.find("Fl " + std::string(option)) != man.npos, option);
}
