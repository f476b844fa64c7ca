#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# fetch_lwip_test.sh SCRIPT: which mirrors the script would ask, and its errors, with an apt that only writes down what
# it is told. No network.
set -eu
script=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/etc/sources.list.d"

stub() { cat >"$root/bin/$1" && chmod +x "$root/bin/$1"; }
stub apt-config <<END
echo "list='$root/etc/sources.list'"
echo "parts='$root/etc/sources.list.d/'"
END
stub apt-get <<END
[ "\$1 \$3" = "-c -q" ] || exit 9
options=\$2
case "\$4" in
update)
    parts=\$(sed -n 's/^Dir::Etc::sourceparts "\(.*\)";/\1/p' "\$options")
    cat "\$parts"/latchkey.list "\$parts"/latchkey.sources >"$root/asked"
    cp "\$options" "$root/options"
    echo update >>"$root/calls" ;;
source)
    [ ! -f "$root/break" ] || { echo "E: hash sum mismatch"; exit 100; }
    mkdir -p lwip-2.1.3/src/include/lwip && : >lwip-2.1.3/src/include/lwip/init.h
    echo source >>"$root/calls" ;;
esac
END
stub apt-cache <<END
[ -f "$root/none" ] || echo "Package: lwip"
END
stub dpkg-source </dev/null
stub dpkg-parsechangelog <<END
echo 1
END
PATH=$root/bin:$PATH
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")

failed=0
same() {
    [ "$2" = "$3" ] && return
    printf '%s: expected\n%s\ngot\n%s\n' "$1" "$2" "$3" >&2
    failed=1
}

cat >"$root/etc/sources.list" <<END
# deb http://mirror.example/debian $codename main
deb [arch=amd64 signed-by=/a/key.gpg] http://mirror.example/debian $codename contrib main # Debian itself
deb-src http://mirror.example/debian $codename-updates main
deb http://mirror.example/debian $codename-strange main
deb http://other.example/apt $codename stable
deb cdrom:[disc]/ $codename-nothing main
END
cat >"$root/etc/sources.list.d/b.sources" <<END
# a comment
Types: deb
URIs: http://mirror.example/debian
# inside
Suites: $codename $codename-backports other
Components: main non-free
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd

Types: deb
URIs: http://off.example/debian
Suites: $codename
Components: main
Enabled: no

Types: deb
URIs: http://third.example
Suites: nodistro
Components: main
END
echo "deb http://left.example/debian $codename main" >"$root/etc/sources.list.d/old.list.save"

sh "$script" "$root/cache" >"$root/out"
same "one-line entries" "deb-src [arch=amd64 signed-by=/a/key.gpg] http://mirror.example/debian $codename main
deb-src http://mirror.example/debian $codename-updates main" "$(grep ^deb "$root/asked" | LC_ALL=C sort)"
same "stanzas" "Types: deb-src
Suites: $codename $codename-backports
Components: main" "$(grep -E '^(Types|Suites|Components)' "$root/asked")"
same "other fields" " -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
signed-by:
uris: http://mirror.example/debian" "$(grep -E '^(uris|signed-by| )' "$root/asked" | LC_ALL=C sort)"
same "unsigned archives are refused" 'Acquire::AllowInsecureRepositories "false";' "$(grep Insecure "$root/options")"
same "the tree" "$root/cache/source/src/include/lwip/init.h" "$(ls "$root/cache/source/src/include/lwip/init.h")"
kept=$(find "$root/cache" -mindepth 1 -maxdepth 1 -printf '%f\n' | LC_ALL=C sort | xargs)
same "nothing else is kept" ".lock source" "$kept"

sh "$script" "$root/cache" >"$root/out"
same "a second run is silent" "" "$(cat "$root/out")"
same "and asks nobody" "update source" "$(tr '\n' ' ' <"$root/calls" | sed 's/ $//')"

refused() {
    if sh "$script" "$root/$1" >"$root/out" 2>&1; then
        echo "$1: it should have failed" >&2
        failed=1
    fi
    same "$1" "$2" "$(tail -1 "$root/out")"
    same "$1: no half-made tree" "" "$(find "$root/$1" -name source)"
}
: >"$root/break"
refused broken "fetch-lwip.sh: apt-get source lwip failed (its messages stand above)"
rm "$root/break"
: >"$root/none"
refused missing "fetch-lwip.sh: apt found no source package lwip (its messages stand above)"
rm "$root/etc/sources.list" "$root/etc/sources.list.d/b.sources"
looked="(looked in $root/etc/sources.list and $root/etc/sources.list.d/)"
refused entries "fetch-lwip.sh: apt has no entry for Debian's main component $looked"
exit $failed
