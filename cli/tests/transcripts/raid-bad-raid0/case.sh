for i in 0 1 2; do image m$i 64 zero; image d$i 2048 zero; done
image short 1024 zero
wipe() { for m in $m0 $m1 $m2; do put $m 0 32 zero; done; }
L2="2 $m0 $d0 $m1 $d1"
p() { bad "0 4096 raid raid0 $(($# + 1)) 8 $* $L2"; wipe; }
p; p sync; p nosync; p rebuild 1; p daemon_sleep 1; p min_recovery_rate 1; p max_recovery_rate 1; p write_mostly 1; p max_write_behind 2; p stripe_cache 1
p region_size 64; p raid10_copies 2; p raid10_format near; p raid10_use_near_sets; p data_offset 0; p data_offset 32; p delta_disks 1; p journal_dev $d2
bad "0 4096 raid raid0 1 8 1 $m0 $d0"; wipe
bad "0 2048 raid raid0 1 8 1 $m0 $d0"; wipe
bad "0 4095 raid raid0 1 8 $L2"; wipe
bad "0 4092 raid raid0 1 8 $L2"; wipe
bad "0 4090 raid raid0 1 8 $L2"; wipe
bad "0 6144 raid raid0 1 8 3 $m0 $d0 $m1 $d1 $m2 $d2"; wipe
bad "0 6144 raid raid0 1 8 3 - $d0 - $d1 - $d2"
bad "0 6144 raid raid0 1 8 3 - $d0 - $d1 $m2 $d2"; wipe
bad "0 4096 raid raid0 1 8 2 $m0 $d0 - -"; wipe
bad "0 4096 raid raid0 1 8 2 - $d0 - -"
bad "0 4096 raid raid0 1 8 2 $m0 $d0 $m1 $short"; wipe
x dmsetup create r --table "0 4096 raid raid0 1 64 $L2"
info r
x blockdev --getsz --getss --getiomin --getioopt /dev/mapper/r
for m in check repair idle frozen resync recover nosuch; do x dmsetup message r 0 $m; done
put /dev/mapper/r 0 4096 1000
get $d0; get $d1; get $m0; get $m1
x dmsetup suspend r
x dmsetup status r
x dmsetup resume r
x dmsetup remove r
get $m0
keep m0-after $m0
x dmsetup create r --table "0 4096 raid raid0 1 64 $L2"
x dmsetup status r
get /dev/mapper/r
x dmsetup remove r
note "another chunk size, other order, one missing"
x dmsetup create r --table "0 4096 raid raid0 1 32 $L2"
info r
x dmsetup remove r
x dmsetup create r --table "0 4096 raid raid0 1 64 2 $m1 $d1 $m0 $d0"
info r
x dmsetup remove r
x dmsetup create r --table "0 4096 raid raid0 1 64 2 $m0 $d0 - -"
info r
x dmsetup remove r
