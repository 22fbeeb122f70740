# As written for the kernel: $1 and $2 are disks of 64 MiB. Nothing here knows of dmsim.
set -e
D=/dev/mapper

# A file system in half of a disk.
dmsetup create vol --table "0 65536 linear $1 0"
mkfs.ext4 -q -b 4096 $D/vol
mkdir m s
mount $D/vol m
echo first > m/file

# Made longer while it is mounted.
dmsetup load vol --table "0 131072 linear $1 0"
dmsetup suspend vol
dmsetup resume vol
[ "$(blockdev --getsz $D/vol)" = 131072 ]

# A snapshot of it, as it is in use.
dmsetup table vol | dmsetup create vol-real
dmsetup suspend vol
dmsetup create snap --notable
echo "0 131072 snapshot $D/vol-real $2 P 8" | dmsetup load snap
echo "0 131072 snapshot-origin $D/vol-real" | dmsetup load vol
dmsetup resume snap
dmsetup resume vol
echo second > m/file
sync
mount -o ro $D/snap s
[ "$(cat s/file)" = first ]
[ "$(cat m/file)" = second ]

# Renamed while it is mounted.
dmsetup rename vol data
[ -b $D/data ]
[ ! -e $D/vol ]
echo third > m/other
sync
[ "$(dmsetup info -c --noheadings -o open data | tr -d ' ')" = 1 ]
if dmsetup remove data 2> /dev/null; then exit 1; fi

# Taken apart; what was written is on the disk.
umount s
umount m
dmsetup remove snap
dmsetup remove data
dmsetup remove vol-real
dmsetup create again --table "0 131072 linear $1 0"
e2fsck -fn $D/again > /dev/null 2>&1
mount $D/again m
cat m/file m/other
umount m
dmsetup remove again
rmdir m s
