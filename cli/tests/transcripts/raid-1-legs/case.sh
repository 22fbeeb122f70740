image a 8192 0; image b 8192 0; image ma 64 zero; image mb 64 zero
x dmsetup create la --table "0 8192 linear $a 0"
x dmsetup create lb --table "0 8192 linear $b 0"
A="$ma /dev/mapper/la" B="$mb /dev/mapper/lb"
idle() { sleep 0.3; waitfor 30 status_has r ' 8192/8192 idle '; klog; }
swap() { x dmsetup suspend --nolockfs $1; x dmsetup load $1 --table "$2"; x dmsetup resume $1; }
TBL="0 8192 raid raid1 3 0 region_size 128 2 $A $B"
x dmsetup create r --table "0 8192 raid raid1 4 0 nosync region_size 128 2 $A $B"; idle
info r
put /dev/mapper/r 0 64 10000
get $a; get $b
note "leg 1 fails a write"
swap lb "0 8192 error"
put /dev/mapper/r 64 64 11000; sleep 1; klog
x dmsetup status r
x dmsetup info -c --noheadings -o events r
put /dev/mapper/r 4096 128 12000
get /dev/mapper/r
note "it is back; the second resume takes it in again"
swap lb "0 8192 linear $b 0"
x dmsetup status r
x dmsetup suspend r
x dmsetup status r
x dmsetup resume r; idle
x dmsetup status r
get $a; get $b
note "leg 0 fails a read"
swap la "0 8192 error"
get /dev/mapper/r; sleep 1; klog
x dmsetup status r
put /dev/mapper/r 8000 64 13000
note "removed, and put together again with the leg"
x dmsetup remove r
swap la "0 8192 linear $a 0"
x dmsetup create r --table "$TBL"; idle
x dmsetup status r
get $a; get $b
note "without leg 0, written, with it again"
x dmsetup remove r
x dmsetup create r --table "0 8192 raid raid1 3 0 region_size 128 2 - - $B"; idle
info r
put /dev/mapper/r 2048 64 14000
x dmsetup remove r
x dmsetup create r --table "$TBL"; idle
x dmsetup status r
get $a; get $b
note "both legs fail"
swap lb "0 8192 error"
put /dev/mapper/r 100 8 15000; sleep 1; klog
x dmsetup status r
swap la "0 8192 error"
put /dev/mapper/r 100 8 15000; sleep 1; klog
x dmsetup status r
get /dev/mapper/r 0 8
swap la "0 8192 linear $a 0"
swap lb "0 8192 linear $b 0"
get /dev/mapper/r 0 8
x dmsetup remove r
