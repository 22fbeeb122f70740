for i in 0 1 2 3; do image m$i 64 zero; image d$i 2048 zero; done
image s 1024 zero
image tiny 8 zero
L2="2 $m0 $d0 $m1 $d1"
wipe() { for m in $m0 $m1 $m2 $m3; do put $m 0 64 zero; done; }
note "type"
bad "0 2048 raid"
bad "0 2048 raid nosuch 1 0 $L2"
bad "0 2048 raid raid 1 0 $L2"
bad "0 2048 raid RAID1 1 0 $L2"
wipe
note "counts"
bad "0 2048 raid raid1"
bad "0 2048 raid raid1 x 0 $L2"
bad "0 2048 raid raid1 -1 0 $L2"
bad "0 2048 raid raid1 +1 0 $L2"
bad "0 2048 raid raid1 0"
bad "0 2048 raid raid1 0 2"
bad "0 2048 raid raid1 0 $L2"
bad "0 2048 raid raid1 7 0 $L2"
bad "0 2048 raid raid1 6 0 $L2"
bad "0 2048 raid raid1 5 0 $L2"
bad "0 2048 raid raid1 1"
bad "0 2048 raid raid1 1 0"
bad "0 2048 raid raid1 1 0 0"
bad "0 2048 raid raid1 1 0 x $m0 $d0 $m1 $d1"
bad "0 2048 raid raid1 1 0 -2 $m0 $d0 $m1 $d1"
bad "0 2048 raid raid1 1 0 0 $m0 $d0 $m1 $d1"
bad "0 2048 raid raid1 1 0 3 $m0 $d0 $m1 $d1"
bad "0 2048 raid raid1 1 0 2 $m0 $d0 $m1"
bad "0 2048 raid raid1 1 0 2 $m0 $d0"
bad "0 2048 raid raid1 1 0 1"
bad "0 2048 raid raid1 1 0 1 $m0"
bad "0 2048 raid raid1 1 0 1 $m0 $d0"
wipe
bad "0 2048 raid raid1 1 0 1 $m0 $d0 $m1 $d1"
wipe
bad "0 2048 raid raid1 1 0 2 $m0 $d0 $m1 $d1 $d2"
wipe
bad "0 2048 raid raid1 1 0 2 $m0 $d0 $m1 $d1 $m2 $d2 more"
wipe
many="" ; for i in $(seq 253); do many="$many - -"; done
bad "0 2048 raid raid1 1 0 253 $many"
bad "0 2048 raid raid1 1 0 254 $many - -"
bad "0 2048 raid raid1 1 0 255 $many - - - -"
bad "0 2048 raid raid1 1 0 4294967298 $m0 $d0 $m1 $d1"
bad "0 2048 raid raid4 1 8 1 - -"
bad "0 2048 raid raid6_zr 1 8 2 - - - -"
note "chunk"
for c in x '' 1x 0x8 +8 -8 2147483648 -2147483649 7 8; do bad "0 2048 raid raid1 1 $c $L2"; wipe; done
for t in raid0 raid10; do
for c in x -8 -2147483648 0 1 2 3 4 6 7 12 2147483648 +8; do bad "0 2048 raid $t 1 $c $L2"; wipe; done
done
note "devices"
bad "0 2048 raid raid1 1 0 2 nosuch $d0 $m1 $d1"
bad "0 2048 raid raid1 1 0 2 $m0 nosuch $m1 $d1"
bad "0 2048 raid raid1 1 0 2 $m0 - $m1 $d1"
bad "0 2048 raid raid1 1 0 2 $m0 $d0 $m1 -"
bad "0 2048 raid raid1 1 0 2 - - - -"
bad "0 2048 raid raid1 1 0 2 $m0 $d0 $m0 $d1"
wipe
bad "0 2048 raid raid1 1 0 2 $m0 $d0 $m1 $d0"
wipe
bad "0 2048 raid raid1 1 0 2 $m0 $d0 - -"
wipe
bad "0 2048 raid raid1 1 0 2 - - $m1 $d1"
wipe
bad "0 2048 raid raid1 1 0 2 - $d0 - $d1"
bad "0 2048 raid raid1 1 0 2 - $d0 - -"
bad "0 2048 raid raid1 1 0 2 $m0 $d0 - $d1"
wipe
bad "0 2048 raid raid1 3 0 rebuild 1 2 - $d0 - $d1"
bad "0 2048 raid raid1 3 0 rebuild 1 2 - $d0 - -"
bad "0 2048 raid raid1 3 0 rebuild 1 2 $m0 $d0 $m1 -"
bad "0 2048 raid raid10 1 8 2 - $d0 - $d1"
note "sizes"
bad "0 2048 raid raid1 1 0 2 $m0 $d0 $m1 $s"
wipe
bad "0 2049 raid raid1 1 0 $L2"
wipe
bad "0 2047 raid raid1 1 0 $L2"
wipe
bad "0 1 raid raid1 1 0 $L2"
wipe
bad "0 2048 raid raid1 1 0 2 $tiny $d0 $m1 $d1"
wipe
