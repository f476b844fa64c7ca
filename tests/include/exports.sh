#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: exports.sh LIBRARY
# What liblatchkey-ipsec.so exports is what its three headers declare. (Unoptimised, objects of the standard library's
# headers show as well.)
set -eu
include=${LATCHKEY_SOURCE:?names the source tree}/include
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --defined-only "$1" | awk '{print $3}' | grep -v -e '^__' -e '^_init' -e '^_fini' -e '^_ZNK\?St' | sort >"$work/exported"
# Functions behind the visibility pragma, and the one variable.
for header in libpfkey.h netinet6/ipsec.h latchkey/algorithms.h; do
    sed -n '/visibility push/,/visibility pop/p' "$include/$header"
done | sed -e 's,/\*.*\*/,,' -e '/^ \*/d' >"$work/declared.h"
{
    grep -o '\b[a-z][a-z0-9_]*(' "$work/declared.h" | grep -E '^(pfkey_|ipsec_|latchkey_|kdebug_|getipsec|freeipsec)' | tr -d '('
    sed -n 's/^extern int \(.*\);/\1/p' "$work/declared.h"
} | sort -u >"$work/declared"
[ "$(wc -l <"$work/declared")" -gt 50 ] || { echo "the headers were not understood"; exit 1; }
diff "$work/declared" "$work/exported"
