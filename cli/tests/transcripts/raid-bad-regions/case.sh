for i in 0 1 2 3; do image m$i 64 zero; image d$i 8192 zero; done
image big 4194320 zero
image big1 4194320 zero
L2="2 $m0 $d0 $m1 $d1"
wipe() { for m in $m0 $m1 $m2; do put $m 0 32 zero; done; }
p() { local n=$#; bad "0 8192 raid raid1 $((n + 1)) 0 $* $L2"; wipe; }
note "region_size"
for n in -1 0 1 2 4 7 8 12 16 1024 8192 16384 x 2147483647; do p region_size $n; done
p region_size 8 region_size 8
bad "0 8192 raid raid10 3 64 region_size 32 $L2"
wipe
bad "0 8192 raid raid10 3 64 region_size 64 $L2"
wipe
bad "0 8192 raid raid0 3 64 region_size 64 $L2"
bad "0 8192 raid raid10 1 64 $L2"
wipe
bad "0 100 raid raid1 1 0 $L2"
wipe
bad "0 100 raid raid1 3 0 region_size 128 $L2"
bad "0 100 raid raid1 3 0 region_size 8 $L2"
wipe
note "regions of large sets"
bad "0 4194320 raid raid1 3 0 region_size 1 2 $m0 $big $m1 $big1"
wipe
bad "0 4194320 raid raid1 3 0 region_size 2 2 $m0 $big $m1 $big1"
wipe
bad "0 4194320 raid raid1 2 0 nosync 2 $m0 $big $m1 $big1"
wipe
note "others"
p stripe_cache 10; p stripe_cache x; p stripe_cache 1 stripe_cache 1
p raid10_copies 2; p raid10_copies 1; p raid10_copies 3; p raid10_copies 2 raid10_copies 2
p raid10_format near; p raid10_format nosuch; p raid10_use_near_sets; p raid10_use_near_sets raid10_use_near_sets
p data_offset 0; p data_offset -1; p data_offset 8; p data_offset 32; p data_offset 33; p data_offset 64; p data_offset 2048; p data_offset 0 data_offset 0
p delta_disks 0; p delta_disks 1; p delta_disks -1; p delta_disks +1; p delta_disks 251; p delta_disks 252; p delta_disks 1 delta_disks 1; p delta_disks x
p journal_dev $d2; p journal_dev nosuch; p journal_dev $d2 journal_dev $d2; p journal_mode writeback; p journal_mode x
p nosuch; p nosuch 1; p nosuch x; p region_size; p nosync region_size
bad "0 8192 raid raid1 2 0 region_size 1024 $L2"
bad "0 8192 raid raid1 4 0 region_size 1024 nosync sync $L2"
bad "0 8192 raid raid1 9 0 region_size 1024 nosync $L2"
p region_size 1024 nosync daemon_sleep 100 max_recovery_rate 9 min_recovery_rate 8 max_write_behind 100 write_mostly 1
p write_mostly 0 rebuild 1 region_size 1024
