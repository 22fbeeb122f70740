image a 8192 0; image b 8192 4096; image c 8192 8192; image ma 64 zero; image mb 64 zero; image mc 64 zero
A="$ma $a" B="$mb $b" C="$mc $c"
idle() { sleep 0.5; waitfor 30 status_has r '/8192 idle '; klog; }
go() { x dmsetup create r --table "$1" || return; idle; x dmsetup table r; x dmsetup status r; x dmsetup remove r; }
inactive() { x dmsetup create r --notable; x dmsetup load r --table "$1"; x dmsetup status --inactive r; x dmsetup table --inactive r; x dmsetup resume r; idle; x dmsetup status r; x dmsetup remove r; }
R="region_size 128"
note "a new set"
inactive "0 8192 raid raid1 3 0 $R 2 $A $B"
get $a; get $b
note "again; swapped; nosync"
inactive "0 8192 raid raid1 3 0 $R 2 $A $B"
go "0 8192 raid raid1 3 0 $R 2 $B $A"
go "0 8192 raid raid1 3 0 $R 2 $A $B"
go "0 8192 raid raid1 4 0 nosync $R 2 $A $B"
note "a third leg"
go "0 8192 raid raid1 3 0 $R 3 $A $B $C"
go "0 8192 raid raid1 5 0 $R rebuild 2 3 $A $B $C"
get $c
go "0 8192 raid raid1 3 0 $R 3 $A - - $C"
go "0 8192 raid raid1 3 0 $R 3 $A $B $C"
go "0 8192 raid raid1 3 0 $R 2 $A $B"
note "a leg is new"
put $mb 0 64 zero
put $b 0 8192 20000
go "0 8192 raid raid1 3 0 $R 2 $A $B"
inactive "0 8192 raid raid1 5 0 rebuild 1 $R 2 $A $B"
get $b
go "0 8192 raid raid1 5 0 rebuild 0 $R 2 $A $B"
put $mb 0 64 zero
go "0 8192 raid raid1 7 0 rebuild 0 rebuild 1 $R 2 $A $B"
note "all are new, one is to be rebuilt"
put $ma 0 64 zero
put $mb 0 64 zero
put $b 0 8192 20000
go "0 8192 raid raid1 5 0 rebuild 1 $R 2 $A $B"
get $b
note "legs are missing"
go "0 8192 raid raid1 3 0 $R 2 $A - -"
go "0 8192 raid raid1 3 0 $R 2 - - - -"
go "0 8192 raid raid1 3 0 $R 2 $A - $b"
go "0 8192 raid raid1 3 0 $R 2 - $a - $b"
note "shorter, longer"
x dmsetup create r --table "0 4096 raid raid1 3 0 $R 2 $A $B"; sleep 1; x dmsetup status r; x dmsetup remove r
go "0 8192 raid raid1 3 0 $R 2 $A $B"
note "another region size"
go "0 8192 raid raid1 3 0 region_size 256 2 $A $B"
go "0 8192 raid raid1 1 0 2 $A $B"
