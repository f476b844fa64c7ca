#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# First process of the guest kernel (guest.py). The root is the host's, read-only. Serves a shell on the second
# interface.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
mount -t tmpfs none /mnt

# The kernel loads modules by itself through this one.
mkdir -p /run/modules/lib/modules
ln -s "/usr/lib/uml/modules/$(uname -r)" /run/modules/lib/modules/
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/modules "$@"\n' >/run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
/run/modprobe -qa ipv6 xfrm_user esp4 esp6 authenc seqiv echainiv gcm cbc ctr hmac sha1_generic sha256_generic \
    aes_generic crypto_null

ip link set lo up
ip link set vec1 up
ip address add 172.31.255.2/30 dev vec1
exec socat TCP-LISTEN:7000,bind=172.31.255.2,reuseaddr,fork EXEC:/bin/sh,stderr
