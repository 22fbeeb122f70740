# What dmsetup does with udev's cookies, as a transcript: the recording and the test run this script alike.
# {COOKIE}, {cookie} and {number} are the forms of the cookie of the moment. $udev is what plays udev's part
# after a change of a device; /run/udev/control is made here, so /run is to be a tmpfs of the script's own.
export LC_ALL=C TZ=UTC
unset DM_DISABLE_UDEV DM_UDEV_COOKIE DM_DEV_DIR
work=$(mktemp -d) C=@@ c=@@ n=@@ status=0

shown() {
    sed -E -e "s/$C/{COOKIE}/g" -e "s/$c/{cookie}/g" -e "s/$n/{number}/g" -e 's/^semid [0-9]+/semid {id}/' \
        -e 's/^(\{cookie\}|0x[0-9a-f]+) +[0-9]+ +([0-9]+) +([A-Z].{23})  [A-Z].{23}$/\1 {id} \2 \3/' \
        -e 's/[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} 2[0-9]{3}/{time}/g'
}

# run STDIN NAME=VALUE... dmsetup WORD...
run() {
    input=$1; shift
    line=
    for word; do
        case $word in
        '' | *[!A-Za-z0-9_./:=+,-]*) line="$line '$word'" ;;
        *) line="$line $word" ;;
        esac
    done
    [ -z "$input" ] || line="$line << '$input'"
    printf '%s\n' "\$$line" | shown
    printf "$input" | env "$@" > "$work/out" 2> "$work/err"
    status=$?
    shown < "$work/out" | sed 's/^/| /'
    shown < "$work/err" | sed 's/^/2| /'
    [ $status = 0 ] || echo "? $status"
}

t() { run '' "$@"; }

# A new cookie, which is the one of the moment.
new() {
    dmsetup udevcreatecookie > "$work/new"
    C=$(cat "$work/new") c=$(printf '0x%x' "$C") n=$(printf '%d' "$C")
    echo '$ dmsetup udevcreatecookie'
    shown < "$work/new" | sed 's/^/| /'
}

change() {
    t "$@"
    [ -z "$udev" ] || eval "$udev"
}

echo '# no udev'
t dmsetup udevcreatecookie
t dmsetup udevcookies
t dmsetup udevcomplete 0xd4d1234
t dmsetup udevreleasecookie 0xd4d1234
t dmsetup udevreleasecookie
t DM_UDEV_COOKIE=0xd4d1234 dmsetup udevreleasecookie
t DM_UDEV_COOKIE=x dmsetup udevreleasecookie
t DM_UDEV_COOKIE= dmsetup udevreleasecookie
t DM_DISABLE_UDEV=1 dmsetup udevcreatecookie
t dmsetup create n1 --udevcookie 0xd4d1234 --table '0 8 zero'
t dmsetup create n2 --udevcookie x --table '0 8 zero'
t DM_UDEV_COOKIE=x dmsetup ls
t DM_UDEV_COOKIE=x dmsetup ls --udevcookie 0
t dmsetup remove n1 n2

echo '# a udev'
mkdir -p /run/udev
: > /run/udev/control
t dmsetup udevcookies
new
t dmsetup udevcookies
change dmsetup create z1 --udevcookie $C --table '0 8 zero'
t dmsetup udevcookies
change dmsetup rename z1 z2 --udevcookie $c
change DM_UDEV_COOKIE=$n dmsetup resume z2
t DM_UDEV_COOKIE=$n dmsetup suspend z2
t DM_UDEV_COOKIE=$n dmsetup load z2 --table '0 8 error'
t DM_UDEV_COOKIE=$n dmsetup clear z2
t DM_UDEV_COOKIE=$n dmsetup create z4 --notable
change DM_UDEV_COOKIE=$n dmsetup resume z2
change DM_UDEV_COOKIE=$n dmsetup wipe_table z2
change DM_UDEV_COOKIE=$n dmsetup rename --setuuid z2 U
t dmsetup udevcookies
change DM_UDEV_COOKIE=$n dmsetup create z2 --table '0 8 zero'
change DM_UDEV_COOKIE=$n dmsetup remove nosuch
change DM_UDEV_COOKIE=$n dmsetup create --concise 'z5,,,,0 8 zero'
change DM_UDEV_COOKIE=$C dmsetup remove z2
t DM_UDEV_COOKIE=$C dmsetup remove_all
t dmsetup udevcookies
t DM_UDEV_COOKIE=$C dmsetup udevreleasecookie
t dmsetup udevcookies
t dmsetup udevreleasecookie $C
t dmsetup udevcomplete $C
new
t dmsetup udevcomplete $C
t dmsetup udevcookies
t dmsetup udevcomplete $c
t dmsetup udevreleasecookie $n
t dmsetup udevcookies

echo '# words'
t dmsetup udevreleasecookie 0x1234
t dmsetup udevreleasecookie x
t dmsetup udevreleasecookie ''
for word in 0x1234 0x10000 0 -1 99999999999 0x12x '' ' 0xd4d0001' 010 +5 08; do t dmsetup udevcomplete -- "$word"; done
for word in 0xd4d0001 0x1234567 0xffffffff 4294967295 12345 0 x 0x10000 0x20000 0x40000 0x80000 0x100000 \
    0x200000 0x400000 0x800000 0x1000000 0x80000000; do
    t dmsetup udevflags $word
done

echo '# cookies that are not there'
t dmsetup create z1 --udevcookie 0xd4d1234 --table '0 8 zero'
t dmsetup ls
t dmsetup create z1 --udevcookie 0x1234 --table '0 8 zero'
export DM_UDEV_COOKIE=0xd4d1234
t dmsetup create z1 --table '0 8 zero'
t dmsetup create --noudevsync z1 --table '0 8 zero'
t dmsetup create z2 --notable
t dmsetup suspend z1
t dmsetup resume z1
t dmsetup rename z1 z3
t dmsetup rename --setuuid z1 U
t dmsetup remove z1
t dmsetup remove --force z1
t dmsetup load z1 --table '0 8 zero'
t dmsetup clear z1
t dmsetup wipe_table z1
t dmsetup mangle
t dmsetup ls
t dmsetup create --concise 'z7,,,,0 8 zero'
t dmsetup remove_all
t dmsetup ls
unset DM_UDEV_COOKIE

echo '# udev is left out'
t DM_DISABLE_UDEV=1 dmsetup udevcreatecookie
t DM_DISABLE_UDEV= dmsetup udevcreatecookie
t DM_DISABLE_UDEV=1 dmsetup udevcookies
t DM_DISABLE_UDEV=1 dmsetup ls
t DM_DISABLE_UDEV=1 dmsetup ls --noudevsync
t DM_DISABLE_UDEV=1 dmsetup udevflags 0x10000
t DM_DISABLE_UDEV=1 dmsetup udevcomplete 0xd4d1234
t DM_DISABLE_UDEV=1 dmsetup udevcomplete 0x10000
t DM_DISABLE_UDEV=1 dmsetup create z1 --table '0 8 zero'
t DM_DISABLE_UDEV=1 dmsetup create z2 --notable
t DM_DISABLE_UDEV=1 dmsetup suspend z1
t DM_DISABLE_UDEV=1 dmsetup resume z1
t DM_DISABLE_UDEV=1 dmsetup rename z1 z3
t DM_DISABLE_UDEV=1 dmsetup remove z2 z3
t dmsetup udevcreatecookie --noudevsync
t DM_DEV_DIR=x dmsetup ls
t DM_DEV_DIR= dmsetup ls

echo '# all of them'
t dmsetup udevcomplete_all
run 'n\n' dmsetup udevcomplete_all
run N dmsetup udevcomplete_all 3
run 'x\n\nq\nn\n' dmsetup udevcomplete_all 3
run 'yes\n' dmsetup udevcomplete_all 3
run 'yn\n' dmsetup udevcomplete_all
t dmsetup udevcomplete_all x
new; new; new
for words in '-y 1' '-y -- -1' '1x -y' -y '--yes 0'; do t dmsetup udevcomplete_all $words; done

echo '# who waits'
# Makes a change part of the cookie whose end udev has not told: the recording's has not, as nothing plays it here.
pending() {
    if [ "$udev" ]; then
        dmsetup create z9 --udevcookie $C --table '0 8 zero'
    else
        perl -e 'semop(semget(hex(shift), 1, 0), pack("s!3", 0, 1, 0)) or die $!' $C
    fi
}
waits() {
    (
        dmsetup udevreleasecookie $C
        echo "released: $?" > "$work/waits"
    ) &
    while ! dmsetup udevcookies | grep -q "^$c  *[0-9]*  *1 "; do sleep 0.1; done
    sleep 0.3
    [ ! -e "$work/waits" ] || echo 'did not wait'
}
new
pending
t dmsetup udevcookies
waits
t dmsetup udevcomplete $C
wait; cat "$work/waits"; rm "$work/waits"
t dmsetup udevcookies
[ -z "$udev" ] || dmsetup remove z9 --udevcookie $C 2> /dev/null || dmsetup remove --noudevsync z9
new
pending
waits
t dmsetup udevcomplete_all -y
wait; cat "$work/waits"
[ -z "$udev" ] || dmsetup remove --noudevsync z9
rm -r "$work"
