#!/bin/bash
# Ends the cluster and takes away what it left. Ends no process but those that up.sh noted and those in the cluster's own control groups.
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

for name in $groups; do
    [ -f "$run/$name.pid" ] || continue
    read -r pid started < "$run/$name.pid"
    # A number may have been given to somebody else since; the time of its start tells.
    if [ "$(awk '{print $22}' "/proc/$pid/stat" 2>/dev/null)" = "$started" ]; then kill -KILL "$pid"; fi
    rm -f "$run/$name.pid"
done
members() { local group; for group in $groups; do find /sys/fs/cgroup/{memory,pids}/$prefix-$group -name cgroup.procs -exec cat {} + 2>/dev/null; done | sort -u; }
for _ in $(seq 200); do
    left=$(members)
    [ -n "$left" ] || break
    kill -KILL $left 2>/dev/null
    sleep 0.05
done
for group in $groups; do
    for controller in $(controllers); do
        path=/sys/fs/cgroup/$controller/$prefix-$group
        [ ! -d "$path" ] || find "$path" -depth -type d -exec rmdir {} + 2>/dev/null
    done
done
for name in $nodes $outsiders control; do [ ! -e "/run/netns/$prefix-$name" ] || ip netns delete "$prefix-$name"; done
if [ -f "$run/sysctl" ]; then while read -r name value; do echo "$value" > "/proc/sys/$name"; done < "$run/sysctl"; fi
if grep -q " $run" /proc/self/mountinfo; then fail "mounts are left below $run"; fi
left=$(members)
[ -z "$left" ] || fail "processes do not end: $left"
rm -rf "$run"
