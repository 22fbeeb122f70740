for i in 0 1 2 3 4; do image m$i 64 zero; image d$i 2048 zero; done
wipe() { for m in $m0 $m1 $m2 $m3 $m4; do put $m 0 32 zero; done; }
devs() { local i v; echo -n "$1"; for i in $(seq 0 $(($1 - 1))); do eval v="\$m$i\ \$d$i"; echo -n " $v"; done; }
t() { local len=$1 n=$2 ty=$3; shift 3; bad "0 $len raid $ty $(($# + 1)) 8 $* $(devs $n)"; wipe; }
for ty in raid10 raid10_near raid10_far raid10_offset; do t 2048 2 $ty; done
note formats
for f in near far offset NEAR x ''; do t 2048 2 raid10 raid10_format $f; done
t 2048 2 raid10 raid10_format near raid10_format near
t 2048 2 raid10_far raid10_format near
t 2048 2 raid10_near raid10_format far
t 2048 2 raid10 raid10_use_near_sets
t 2048 2 raid10 raid10_format far raid10_use_near_sets
t 2048 2 raid10 raid10_use_near_sets raid10_format offset
t 2048 2 raid10 raid10_use_near_sets raid10_use_near_sets
note copies
for c in 0 1 2 3 -1 x; do t 2048 2 raid10 raid10_copies $c; done
t 2048 2 raid10 raid10_copies 2 raid10_copies 2
t 2048 1 raid10
t 2048 3 raid10
t 2049 3 raid10
t 3072 3 raid10
t 3072 3 raid10 raid10_format far
t 3072 3 raid10 raid10_format offset
t 2048 3 raid10 raid10_copies 3
t 2048 3 raid10 raid10_copies 3 raid10_format far
t 2048 3 raid10 raid10_copies 3 raid10_format offset
t 5120 5 raid10 raid10_format far
t 5120 5 raid10 raid10_format far raid10_use_near_sets
t 5120 5 raid10 raid10_format offset
t 3400 5 raid10 raid10_copies 3
t 3410 5 raid10 raid10_copies 3
t 3410 5 raid10 raid10_copies 3 raid10_format far
t 3410 5 raid10 raid10_copies 3 raid10_format offset
t 4096 4 raid10 raid10_copies 2 raid10_format far region_size 64 nosync
t 4104 4 raid10
t 4088 4 raid10
t 4090 4 raid10
t 4096 4 raid10 raid10_copies 4
t 1024 4 raid10 raid10_copies 4
t 4096 4 raid10 write_mostly 1
t 4096 4 raid10 max_write_behind 4
t 4096 4 raid10 stripe_cache 4
t 4096 4 raid10 data_offset 0
t 4096 4 raid10 data_offset 32
t 4096 4 raid10 delta_disks 1
t 4096 4 raid10 delta_disks -1
t 4096 4 raid10 rebuild 0
t 4096 4 raid10 rebuild 0 rebuild 1
t 4096 4 raid10 rebuild 0 rebuild 2
t 4096 4 raid10 rebuild 0 rebuild 1 rebuild 2 rebuild 3
note missing
bad "0 4096 raid raid10 1 8 4 - - $m1 $d1 $m2 $d2 $m3 $d3"; wipe
bad "0 4096 raid raid10 1 8 4 - - - - $m2 $d2 $m3 $d3"; wipe
bad "0 4096 raid raid10 1 8 4 - - $m1 $d1 - - $m3 $d3"; wipe
bad "0 4096 raid raid10 1 8 4 - $d0 $m1 $d1 $m2 $d2 $m3 $d3"; wipe
bad "0 4096 raid raid10 1 8 4 - $d0 - $d1 - $d2 - $d3"; wipe
