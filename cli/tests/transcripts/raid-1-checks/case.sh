image a 8192 0; image b 8192 0; image ma 64 zero; image mb 64 zero; image c 8192 0; image mc 64 zero
A="$ma $a" B="$mb $b" C="$mc $c"
idle() { sleep 0.5; waitfor 30 status_has r ' 8192/8192 idle '; klog; }
m() { x dmsetup message r 0 "$@"; idle; x dmsetup status r; }
x dmsetup create r --table "0 8192 raid raid1 4 0 nosync region_size 128 3 $A $B $C"; idle
m check
put $b 1000 1 60
put $c 1001 1 61
put $c 5000 300 62
m check
m repair
m check
get $a; get $b; get $c
m CHECK
m check now
m frozen
m idle
m resync
m recover
m nosuch
x dmsetup message r 0
x dmsetup suspend r
x dmsetup status r
x dmsetup message r 0 check
x dmsetup message r 0 idle
x dmsetup resume r
m check
x dmsetup remove r
