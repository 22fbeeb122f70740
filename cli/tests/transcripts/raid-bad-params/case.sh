for i in 0 1 2 3; do image m$i 64 zero; image d$i 8192 zero; done
L2="2 $m0 $d0 $m1 $d1"
wipe() { for m in $m0 $m1 $m2; do put $m 0 32 zero; done; }
p() { local n=$#; bad "0 8192 raid raid1 $((n + 1)) 0 $* $L2"; dmsetup info bad >/dev/null 2>&1; wipe; }
note "sync, nosync, rebuild"
p sync; p nosync; p NOSYNC; p sync sync; p nosync nosync; p sync nosync; p nosync sync
p rebuild; p rebuild x; p rebuild -1; p rebuild 2; p rebuild 0; p rebuild 1; p rebuild 1 rebuild 1; p rebuild 0 rebuild 1
p rebuild 0 sync; p nosync rebuild 0; p Rebuild 0
note "numbers"
p daemon_sleep 0; p daemon_sleep -1; p daemon_sleep x; p daemon_sleep 1; p daemon_sleep 5000; p daemon_sleep 2147483647; p daemon_sleep 2147483648; p daemon_sleep 1 daemon_sleep 2; p daemon_sleep
p min_recovery_rate -1; p min_recovery_rate 0; p min_recovery_rate 5; p min_recovery_rate 1 min_recovery_rate 1
p max_recovery_rate -1; p max_recovery_rate 0; p max_recovery_rate 5; p max_recovery_rate 1 max_recovery_rate 1
p min_recovery_rate 6 max_recovery_rate 5; p min_recovery_rate 6 max_recovery_rate 0
p write_mostly 0; p write_mostly 1; p write_mostly 2; p write_mostly -1; p write_mostly x; p write_mostly 0 write_mostly 1; p write_mostly 0 write_mostly 0
p max_write_behind 0; p max_write_behind -1; p max_write_behind 1; p max_write_behind 2; p max_write_behind 257; p max_write_behind 16384; p max_write_behind 40000; p max_write_behind 2 max_write_behind 2
p write_mostly 1 max_write_behind 256
