F=far
for i in 0 1 2 3 4; do image m$i 64 zero; image d$i 4096 $((i * 4096)); done
x dmsetup create l1 --table "0 4096 linear $d1 0"
x dmsetup create l2 --table "0 4096 linear $d2 0"
D4="4 $m0 $d0 $m1 /dev/mapper/l1 $m2 /dev/mapper/l2 $m3 $d3"
D5="5 $m0 $d0 $m1 /dev/mapper/l1 $m2 /dev/mapper/l2 $m3 $d3 $m4 $d4"
idle() { sleep 0.5; waitfor 30 status_has r ' ([0-9]+)/\1 idle '; klog; }
swap() { x dmsetup suspend --nolockfs $1; x dmsetup load $1 --table "$2"; x dmsetup resume $1; }
legs() { get $d0; get $d1; get $d2; get $d3; }
wipe() { for m in $m0 $m1 $m2 $m3 $m4; do put $m 0 64 zero; done; }
TBL="0 4096 raid raid10 5 64 region_size 128 raid10_format $F $D4"
x dmsetup create r --table "$TBL"; idle
info r
x blockdev --getsz --getss --getiomin --getioopt /dev/mapper/r
legs
put /dev/mapper/r 0 4096 30000
get /dev/mapper/r
legs
x dmsetup remove r
note "a leg differs"
put $d3 100 8 60
x dmsetup create r --table "$TBL"; idle
x dmsetup message r 0 check; idle
x dmsetup status r
x dmsetup message r 0 repair; idle
x dmsetup message r 0 check; idle
x dmsetup status r
note "leg 1 fails"
swap l1 "0 4096 error"
put /dev/mapper/r 0 512 40000; sleep 1; klog
x dmsetup status r
x dmsetup info -c --noheadings -o events r
get /dev/mapper/r
note "and is back"
swap l1 "0 4096 linear $d1 0"
x dmsetup suspend r
x dmsetup resume r; idle
x dmsetup status r
legs
note "leg 2 is new"
x dmsetup remove r
put $m2 0 64 zero
put $d2 0 4096 zero
x dmsetup create r --table "$TBL"
x dmsetup create r --table "0 4096 raid raid10 7 64 rebuild 2 region_size 128 raid10_format $F $D4"; idle
info r
legs
note "what does not change"
x dmsetup remove r
x dmsetup create r --table "0 4096 raid raid10 5 32 region_size 128 raid10_format $F $D4"; idle
info r
x dmsetup remove r
x dmsetup create r --table "0 4096 raid raid10 3 64 region_size 128 4 $m1 $d1 $m0 $d0 $m2 $d2 $m3 $d3" && { info r; x dmsetup remove r; }
note "five legs, three copies"
wipe
x dmsetup create r --table "0 5120 raid raid10 6 8 nosync raid10_copies 3 raid10_format $F $D5"; idle
info r
put /dev/mapper/r 0 5120 20000
legs
get $d4
x dmsetup remove r
note "five legs, two copies, near sets"
wipe
x dmsetup create r --table "0 5120 raid raid10 5 8 nosync raid10_use_near_sets raid10_format $F $D5" && { idle; x dmsetup status r; put /dev/mapper/r 0 5120 25000; legs; get $d4; x dmsetup remove r; }
