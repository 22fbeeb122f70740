#!/usr/bin/perl
# log-check.pl KIND STATE: recovers a log that log.pl has written. Each record is what was appended, and all that
# were promised are there.
use strict;
use bytes;

my ($kind, $state) = @ARGV;
open(my $device, '<', $state) or die "$state: $!";
sysread($device, my $log, -s $state);
my ($at, $n) = (0, 0);
my $numbers = $kind eq 'checksum' ? 8 : 4;
while ($at + $numbers < length $log) {
    my ($length, $sum) = unpack('VV', substr($log, $at, 8));
    last if $length == 0 || $at + $numbers + $length > length $log;
    my $payload = substr($log, $at + $numbers, $length);
    last if $kind eq 'checksum' && $sum != (unpack('%32C*', $payload) ^ 0x5a5a5a5a);
    $n++;
    my $expected = join(' ', ("record $n") x (20 + $n * 7 % 100));
    $payload eq $expected or die "record $n is not what was appended\n";
    $at += $numbers + $length;
}
my $marks = $ENV{DMSIM_MARKS};
open(my $all, '<', $ENV{DMSIM_MARKS_FILE}) or die "$ENV{DMSIM_MARKS_FILE}: $!";
my $promised = 0;
while (<$all>) {
    $promised = $1 if $. <= $marks && /^record (\d+)/;
}
$n >= $promised or die "$n records, of $promised promised\n";
