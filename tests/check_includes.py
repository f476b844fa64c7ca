#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Keeps the walls of the source tree where they are: who includes whom, where byte order is known, where memory is looked at
as another type, that every file names its licence, every type's name is its own and every header stands alone.

usage: check_includes.py [--no-headers]      LATCHKEY_SOURCE: the tree; LATCHKEY_BUILD: where compile_commands.json is
First it breaks each rule in a small tree of its own and expects to catch that."""
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

# A file belongs to the first part whose pattern matches its path.
PARTS = {
    "include": r"include/",
    # Values, formats, policy texts. sa, replay and deadlines are here because messages carry their values.
    "message": r"pfkey/(address|algorithms|deadlines|formats|message|names|policy|policy_string|replay|result|sa|secret|"
               r"tables|wire)\.hpp|pfkey/(address|message|names|policy_string)\.cpp|"
               r"pfkey/(ipsec_algorithms|ipsec_error|libipsec|libpfkey_\w+)\.[ch]pp",
    "engine": r"pfkey/",
    "protocol": r"stack/client/protocol\.",
    "client": r"stack/client/",
    "stack": r"stack/",
    "setkey": r"setkey/",
    "ike": r"ike/",
    "examples": r"examples/",
    "tests": r"tests/",
}

# The arrows. Every part may include itself; tests may include everything, nobody includes tests.
MAY_INCLUDE = {
    "include": set(),
    "message": {"include"},
    "engine": {"include", "message"},
    "protocol": {"include", "message"},
    "client": {"include", "message", "protocol"},
    "stack": {"include", "message", "engine", "protocol"},
    "setkey": {"include", "message", "protocol", "client"},
    "ike": {"include", "message", "protocol", "client"},
    "examples": {"include", "message", "protocol", "client"},
    "tests": set(PARTS),
}

# Other people's headers that only some parts may know.
FOREIGN = {
    r"(lwip|netif)/|lwipopts\.h|latchkey_hooks\.h|arch/cc\.h": {"stack", "tests"},
    r"openssl/": {"stack", "ike", "tests"},
    r"sodium": {"message", "engine", "client", "stack", "setkey", "ike", "tests"},
    r"doctest/|rapidcheck": {"tests"},
    r"linux/(pfkeyv2|ipsec)\.h": {"tests"},   # ours are include/net/pfkeyv2.h and include/netinet6/ipsec.h
}

BYTE_ORDER = re.compile(r"\b(?:(?:lwip_)?(?:hton|ntoh)(?:s|l|ll)|PP_(?:HTON|NTOH)[SL]|(?:be|le)\d\dtoh|hto(?:be|le)\d\d|"
                        r"bswap_\d\d|__builtin_bswap\d\d|byteswap)\s*\(")
BYTE_ORDER_IN = {"pfkey/wire.hpp": "the one place that knows"}

CAST = re.compile(r"\breinterpret_cast\s*<([^;]*?)>\s*\(")
# The kernel's own idiom for socket addresses is no view of packet memory.
CAST_OF_KERNEL = re.compile(r"^(const )?(struct )?(::)?(sockaddr|sockaddr_\w+) ?(const )?\*$")
CAST_IN = {
    "stack/choke_out.cpp": "lwIP: from a member of a PCB to the PCB; a number in a void* argument",
    "stack/door.cpp": "text to bytes and back",
    "stack/pbuf.cpp": "lwIP: from a pbuf_custom to the block that holds it",
}

SOURCES = (".c", ".cpp", ".h", ".hpp")
PRODUCT = ("include", "pfkey", "stack", "setkey", "ike")
FOLDERS = (*PRODUCT, "examples", "tests", ".ci")
LICENCE = "SPDX-License-Identifier: BSD-2-Clause"


def part_of(path):
    return next((part for part, pattern in PARTS.items() if re.match(pattern, path)), None)


def tracked(root):
    """Paths of the tree's files, relative to it; data and what other programs leave behind are not ours."""
    for folder in FOLDERS:
        for directory, names, files in os.walk(root / folder):
            names[:] = [n for n in names if n not in ("__pycache__", "data", "corpus")]
            for name in files:
                yield (pathlib.Path(directory) / name).relative_to(root).as_posix()


def without_comments(text):
    """Comments and the insides of string literals become blanks; line numbers stay. Includes keep their names."""
    def blank(match):
        kept = match.group(0)
        if kept.startswith("/"):
            return re.sub(r"[^\n]", " ", kept)
        return kept[0] + re.sub(r"[^\n]", " ", kept[1:-1]) + kept[-1]

    # A quote between digits is a digit separator, not a character.
    pattern = r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'"
    lines = []
    for line in re.sub(r"(^\s*#\s*include\s*)\"([^\"]*)\"", r"\1<=\2>", text, flags=re.M).split("\n"):
        lines.append(line)
    return re.sub(pattern, blank, "\n".join(lines), flags=re.S)


def resolve(root, source, name, quoted):
    """The tree's file that an include names, or None for somebody else's header."""
    candidates = [f"include/{name}"]
    if quoted:
        folder = pathlib.PurePosixPath(source).parent
        candidates = [(folder / name).as_posix(), name, f"tests/{name}", f"stack/lwip/{name}", *candidates]
    return next((c for c in candidates if (root / c).is_file()), None)


def check_include(root, source, name, quoted):
    part = part_of(source)
    if ".." in pathlib.PurePosixPath(name).parts:
        return f'includes "{name}" by a relative path'
    for pattern, allowed in FOREIGN.items():
        if re.match(pattern, name) and part not in allowed:
            return f"{part} may not include {name}"
    target = resolve(root, source, name, quoted)
    if target is None:
        is_ours = quoted and part_of(name) is not None
        return f'includes "{name}", which is not there' if is_ours else None
    other = part_of(target)
    if other != part and other not in MAY_INCLUDE[part]:
        return f"{part} may not include {target} ({other})"
    return None


def check_source(root, path, text):
    code = without_comments(text)
    product = path.startswith(tuple(f"{p}/" for p in PRODUCT))
    for number, line in enumerate(code.split("\n"), 1):
        if match := re.match(r"\s*#\s*include\s*<(=?)([^>]+)>", line):
            if fault := check_include(root, path, match.group(2), match.group(1) == "="):
                yield f"{path}:{number}: {fault}"
        if product and path not in BYTE_ORDER_IN and (match := BYTE_ORDER.search(line)):
            yield f"{path}:{number}: byte order belongs to pfkey/wire.hpp: {match.group(0)}"
        if product and path not in CAST_IN:
            for match in CAST.finditer(line):
                if not CAST_OF_KERNEL.match(match.group(1).strip()):
                    yield f"{path}:{number}: {match.group(0)}: not in the list of places that may"


def check_texts(root):
    for path in sorted(tracked(root)):
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        script = text.startswith("#!")
        if path.endswith((*SOURCES, ".py", ".sh")) or (script and not path.endswith(".conf")):
            first = text.split("\n", 2)[1 if script else 0:][:1]
            if not first or LICENCE not in first[0]:
                yield f"{path}:1: does not begin with {LICENCE}"
        if path.endswith(SOURCES):
            yield from check_source(root, path, text)
            if path.endswith(".hpp") and "#pragma once" not in text:
                yield f"{path}:1: no #pragma once"
    for path in (*BYTE_ORDER_IN, *CAST_IN):
        if (root / "stack").is_dir() and not (root / path).is_file():
            yield f"{path}: is an exception in check_includes.py, but not there"


NAMESPACE = re.compile(r"\bnamespace\s*([\w:]*)\s*$")
TRANSPARENT = re.compile(r"\bextern\s*\"[^\"]*\"\s*$")
TYPE = re.compile(r"\b(?:class|struct|union|enum(?:\s+class)?)\s+([A-Za-z_][\w:]*)\s*(?:final\s*)?(?::[^:].*)?$", re.S)


def types_of(text):
    """Full names of the types that a file defines for everybody: not those within others or in an unnamed namespace."""
    code = re.sub(r"^\s*#.*(?:\\\n.*)*", "", without_comments(text), flags=re.M)
    scopes, last = [], 0   # names of open namespaces; None for any other brace
    for brace in re.finditer(r"[{};]", code):
        head, last = code[last:brace.start()], brace.end()
        if brace.group() == "{":
            name = None
            if match := NAMESPACE.search(head):
                name = match.group(1) or None
            elif TRANSPARENT.search(head):
                name = ""
            elif None not in scopes and (match := TYPE.search(head)):
                yield "::".join([*filter(None, scopes), match.group(1)])
            scopes.append(name)
        elif brace.group() == "}" and scopes:
            scopes.pop()


def check_types(root):
    """One name, one type: two that differ would be one to the linker, which takes a destructor of either."""
    owner = {}
    for path in sorted(tracked(root)):
        if path.endswith((".cpp", ".hpp")) and path.startswith(tuple(f"{p}/" for p in PRODUCT)):
            for name in types_of((root / path).read_text()):
                if owner.setdefault(name, path) != path:
                    yield f"{path}: defines {name}, as {owner[name]} does"


def compile_flags(root):
    """Include paths and definitions that the build uses, by folder; a folder without sources takes what stack/ has."""
    flags = {}
    database = pathlib.Path(os.environ.get("LATCHKEY_BUILD", root / "build/release")) / "compile_commands.json"
    for entry in json.loads(database.read_text()) if database.is_file() else []:
        arguments = shlex.split(entry["command"])
        folder = os.path.relpath(os.path.dirname(entry["file"]), root)
        wanted = [a for i, a in enumerate(arguments)
                  if a.startswith(("-I", "-D")) or a == "-isystem" or (i and arguments[i - 1] == "-isystem")]
        known = flags.setdefault(folder, [])
        if len(wanted) > len(known):
            known[:] = wanted
    return flags


def check_header(root, path, flags):
    languages = ["c++"] if path.endswith(".hpp") else ["c++", "c"]
    name = path.removeprefix("include/")
    own = flags.get(os.path.dirname(path)) or flags.get("stack", [])
    for language in languages:
        compiler, standard = ("CXX", "-std=c++23") if language == "c++" else ("CC", "-std=c11")
        default = "c++" if language == "c++" else "cc"
        command = [os.environ.get(compiler, default), "-x", language, standard, "-fsyntax-only", "-Wall", "-Wextra",
                   f"-I{root}", f"-I{root}/include", *own, "-"]
        result = subprocess.run(command, input=f'#include "{name}"\n', capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = next((line for line in result.stderr.split("\n") if "error" in line), result.stderr[:200])
            return f"{path}: does not stand alone ({language}): {reason}"
    return None


def check_headers(root):
    # lwIP's configuration headers are parts of lwIP's own.
    headers = [p for p in tracked(root) if p.endswith((".h", ".hpp")) and p.startswith(tuple(f"{x}/" for x in PRODUCT))
               and not p.startswith("stack/lwip/")]
    flags = compile_flags(root)
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        return [fault for fault in pool.map(lambda p: check_header(root, p, flags), sorted(headers)) if fault]


HEAD = f"// {LICENCE}\n"
# path, text, and what has to be found in it (None: nothing)
SELF_TEST = (
    ("include/net/pfkeyv2.h", HEAD + "#include <stdint.h>\n", None),
    ("include/latchkey/host.h", HEAD + '#include "pfkey/wire.hpp"\n', "include may not include pfkey/wire.hpp (message)"),
    ("pfkey/wire.hpp", HEAD + "#pragma once\nint f() { return std::byteswap(1); }\n", None),
    ("pfkey/engine.hpp", HEAD + '#pragma once\n#include "pfkey/wire.hpp"\n#include <net/pfkeyv2.h>\n', None),
    ("pfkey/message.cpp", HEAD + '#include "engine.hpp"\n', "message may not include pfkey/engine.hpp (engine)"),
    ("pfkey/names.cpp", HEAD + '  #  include "stack/packet.hpp"\n', "message may not include stack/packet.hpp (stack)"),
    ("pfkey/sad.cpp", HEAD + "#include <lwip/ip.h>\n", "engine may not include lwip/ip.h"),
    ("pfkey/spd.cpp", HEAD + "#include <openssl/evp.h>\n", "engine may not include openssl/evp.h"),
    ("stack/packet.hpp", HEAD + '#pragma once\n#include "pfkey/engine.hpp"\n#include "lwip/ip.h"\n', None),
    ("stack/host.cpp", HEAD + '#include "stack/client/protocol.hpp"\n#include <openssl/evp.h>\n', None),
    ("stack/door.cpp", HEAD + '#include "stack/client/calls.hpp"\n', "stack may not include stack/client/calls.hpp (client)"),
    ("stack/client/protocol.hpp", HEAD + '#pragma once\n#include "pfkey/wire.hpp"\n', None),
    ("stack/client/calls.hpp", HEAD + '#pragma once\n#include "stack/packet.hpp"\n', "client may not include stack/packet.hpp"),
    ("stack/client/tool.cpp", HEAD + '#include "pfkey/engine.hpp"\n', "client may not include pfkey/engine.hpp"),
    ("stack/choke_out.cpp", HEAD + "auto* p = reinterpret_cast<Pcb*>(q);\n", None),
    ("stack/pbuf.cpp", HEAD + '#include "../pfkey/wire.hpp"\n', "by a relative path"),
    ("setkey/main.cpp", HEAD + '#include "stack/client/calls.hpp"\n#include "pfkey/wire.hpp"\n', None),
    ("setkey/run.cpp", HEAD + '#include "pfkey/engine.hpp"\n', "setkey may not include pfkey/engine.hpp"),
    ("setkey/gone.cpp", HEAD + '#include "setkey/gone.hpp"\n', "which is not there"),
    ("ike/main.cpp", HEAD + '#include "stack/packet.hpp"\n', "ike may not include stack/packet.hpp"),
    ("examples/echo.c", HEAD + "#include <latchkey/host.h>\nint p = htons(7);\n", None),
    ("examples/deep.cpp", HEAD + '#include "pfkey/engine.hpp"\n', "examples may not include pfkey/engine.hpp"),
    ("stack/order.cpp", HEAD + "int f() { return ntohs (7); }\n", "byte order belongs to pfkey/wire.hpp: ntohs ("),
    ("stack/swap.cpp", HEAD + "int f() { return __builtin_bswap32(7); }\n", "byte order belongs to pfkey/wire.hpp"),
    ("stack/said.cpp", HEAD + '// ntohs(7) and reinterpret_cast<int*>(p)\nauto s = "htonl(7)"; auto n = 1\'000;\n', None),
    ("stack/cast.cpp", HEAD + "auto* h = reinterpret_cast<const Header*>(p);\n", "not in the list of places that may"),
    ("stack/sockaddr.cpp", HEAD + "bind(f, reinterpret_cast<const sockaddr*>(&a), sizeof a);\n", None),
    ("stack/bare.cpp", "int x;\n", f"does not begin with {LICENCE}"),
    ("stack/twice.hpp", HEAD, "no #pragma once"),
    ("stack/uses_tests.cpp", HEAD + '#include "tests/help.hpp"\n', "stack may not include tests/help.hpp (tests)"),
    ("setkey/one.hpp", HEAD + "#pragma once\nnamespace latchkey { namespace a { struct Same { int x; }; } class Far; }\n", None),
    ("setkey/two.cpp", HEAD + "namespace latchkey::a {\nclass Same final : public B<int> {\n};\n}\n", "defines latchkey::a::Same"),
    ("setkey/two2.cpp", HEAD + "namespace latchkey { namespace { struct Same {}; } struct C { enum class Same { x }; }; }\n"
     "namespace latchkey { template <class T> Same f(struct Far x) { struct Same {}; } }\nstruct Same {};\n", None),
    ("tests/help.hpp", HEAD + '#pragma once\n#include "stack/packet.hpp"\n#include <doctest/doctest.h>\n', None),
    ("tests/run.sh", "#!/bin/sh\n# hello\n", f"does not begin with {LICENCE}"),
    ("tests/ok.sh", f"#!/bin/sh\n# {LICENCE}\n", None),
)


def self_test():
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for path, text, _ in SELF_TEST:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        found = [*check_texts(root), *check_types(root)]
        for path, _, wanted in SELF_TEST:
            mine = [f for f in found if f.startswith(f"{path}:")]
            if (wanted is None) != (not mine) or (wanted and not any(wanted in f for f in mine)):
                sys.exit(f"self test: {path}: expected {wanted!r}, found {mine}")
        (root / "stack/alone.hpp").write_text(HEAD + "#pragma once\ninline std::string s;\n")
        (root / "include/net/pfkeyv2.h").write_text(HEAD + "int f(uint8_t);\n")
        for path in ("stack/alone.hpp", "include/net/pfkeyv2.h"):
            if not check_header(root, path, {}):
                sys.exit(f"self test: {path} does not stand alone, and that was not found")


def main():
    root = pathlib.Path(os.environ.get("LATCHKEY_SOURCE", pathlib.Path(__file__).resolve().parent.parent))
    self_test()
    faults = [*check_texts(root), *check_types(root)]
    # Whether a header stands alone does not depend on a sanitizer: once, in the plain build, is enough.
    if "--no-headers" not in sys.argv and not os.environ.get("LATCHKEY_SANITIZED"):
        faults += check_headers(root)
    print("\n".join(faults) if faults else f"{sum(1 for _ in tracked(root))} files are as they should be")
    sys.exit(1 if faults else 0)


main()
