#!/bin/sh
# /init of the initial RAM file system: loads the disk's and the file system's modules, then hands over to the disk.
# The names in MODULES are put in by packaged-kernel.mjs, in the order to load them.
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
for module in @MODULES@; do
  $busybox insmod /lib/$module.ko
done
# The disk is found in the background. Wait up to 60 seconds: on a busy machine the emulator is slow, its clock is not.
tries=0
while [ ! -b /dev/sda2 ] && [ $tries -lt 1200 ]; do
  $busybox usleep 50000
  tries=$((tries + 1))
done
if $busybox mount -t ext4 -o rw /dev/sda2 /root; then
  $busybox mount -o move /dev /root/dev
  exec $busybox switch_root /root /sbin/init
fi
echo "The root file system on /dev/sda2 can't be mounted; this is a shell in memory."
exec $busybox sh
