#!/bin/bash
# Starts the cluster: some ten seconds. IMAGES may name further archives that both nodes import. Needs root, and install.sh before.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

[ "$(id -u)" = 0 ] || fail "needs root"
for name in $binaries pause.tar; do [ -s "$bin/$name" ] || fail "$bin/$name is not there: run install.sh"; done
for name in etcd containerd runc iptables conntrack ip nsenter unshare kubectl openssl; do
    command -v $name >/dev/null || fail "$name is not there: run install.sh"
done
for name in $CNI host-local portmap; do [ -x /usr/lib/cni/$name ] || fail "/usr/lib/cni/$name is not there: run install.sh"; done
for name in memory pids cpuset devices; do
    [ -d /sys/fs/cgroup/$name ] || fail "there is no /sys/fs/cgroup/$name: these scripts place kubelets into control groups of version 1 (boot with systemd.unified_cgroup_hierarchy=0)"
done

began=$(date +%s%N)
say() { printf 'e2e cluster: %s (%d ms)\n' "$*" $((($(date +%s%N) - began) / 1000000)); }

"$scripts/down.sh"
mkdir -p "$run" "$logs"
rm -f "$logs"/*

# kubelets set some of these, and one kernel is shared: down.sh puts them back.
for name in vm/overcommit_memory kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes fs/inotify/max_user_instances; do
    echo "$name $(cat /proc/sys/$name)"
done > "$run/sysctl"
[ "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 1024 ] || echo 1024 > /proc/sys/fs/inotify/max_user_instances

# --- the network
plug() { # NAME ADDRESS: a namespace with one end on the bridge
    ip netns add "$prefix-$1"
    ip -n "$prefix-$1" link set lo up
    ip link add "p-$1" netns "$control" type veth peer name eth0 netns "$prefix-$1"
    ip -n "$control" link set "p-$1" master br0 up
    ip -n "$prefix-$1" address add "$2/24" dev eth0
    ip -n "$prefix-$1" link set eth0 up
}
ip netns add "$control"
ip -n "$control" link set lo up
ip -n "$control" link add br0 type bridge
ip -n "$control" address add "$control_address/24" dev br0
ip -n "$control" link set br0 up
for name in $nodes; do
    plug "$name" "$(node_address "$name")"
    inside "$name" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
    # What the node itself sends to a Service must pass a lookup of routes before kube-proxy translates it.
    ip -n "$prefix-$name" route add "$services" dev eth0
    ip -n "$control" route add "$(node_pods "$name")" via "$(node_address "$name")"
done
for name in $outsiders; do
    plug "$name" "$(outside_port "$name")"
    ip -n "$prefix-$name" address add "$(outside_address "$name")/32" dev lo
    for node in $nodes; do
        ip -n "$prefix-$node" route add "$(outside_address "$name")/32" via "$(outside_port "$name")"
        ip -n "$prefix-$name" route add "$(node_pods "$node")" via "$(node_address "$node")" src "$(outside_address "$name")"
        # Node ports are asked for from the documentation address, too.
        ip -n "$prefix-$name" route add "$(node_address "$node")/32" dev eth0 src "$(outside_address "$name")"
    done
    ip -n "$control" route add "$(outside_address "$name")/32" via "$(outside_port "$name")"
done
for here in $nodes; do
    for there in $nodes; do
        [ "$here" = "$there" ] || ip -n "$prefix-$here" route add "$(node_pods "$there")" via "$(node_address "$there")"
    done
done
say "the network is up"

# --- the machines
"$scripts/keys.sh"
start() { # NAME SCRIPT…: as the first process of mounts, processes and a host name of its own; its parent's end ends all of it
    local name=$1; shift
    make_groups "$name"
    mkdir -p "$run/$name"
    setsid nsenter --net="/run/netns/$prefix-$name" unshare --mount --pid --fork --mount-proc --uts --kill-child=SIGKILL -- "$@" \
        </dev/null >>"$logs/$name.log" 2>&1 &
    echo "$! $(awk '{print $22}' "/proc/$!/stat")" > "$run/$name.pid"
}
start control "$scripts/control.sh"
for name in $nodes; do start "$name" "$scripts/node.sh" "$name"; done

ready() { [ "$(kubectl_admin get --raw /readyz)" = ok ]; }
wait_for 60 "the API server is not ready" ready
say "the API server is ready"
for name in $nodes; do
    # Given after the kubelet has registered the node: one that finds a node without a status, made before, dies of it (1.20).
    range="{\"spec\":{\"podCIDR\":\"$(node_pods "$name")\",\"podCIDRs\":[\"$(node_pods "$name")\"]}}"
    wait_for 60 "$name does not register" kubectl_admin patch node "$name" --patch "$range"
done
kubectl_admin wait --for=condition=Ready --timeout=60s node $nodes >/dev/null
wait_for 60 "there is no default ServiceAccount" kubectl_admin -n default get serviceaccount default
# From 1.22 on the API server labels namespaces with their names itself, and what selects by the label would select nothing here.
for name in default kube-system kube-public kube-node-lease; do
    kubectl_admin label namespace "$name" --overwrite "kubernetes.io/metadata.name=$name" >/dev/null
done
for name in $nodes; do
    for image in ${IMAGES:-}; do on_node "$name" ctr --namespace k8s.io images import "$image" >> "$logs/$name-images.log"; done
done
say "both nodes are ready, pods join them by $CNI"
