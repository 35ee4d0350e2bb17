# Where everything lies and which addresses are used; every script here reads this first.
#
#   SIGNALBOX_E2E_CACHE  what install.sh makes once: Kubernetes' source, its binaries, the pause image
#   SIGNALBOX_E2E_STATE  what one running cluster writes: keys, etcd, containerd's and the kubelets' folders, logs
#   CNI                  ptp (the default) or bridge: which of the two standard plugins joins a pod to its node

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${SIGNALBOX_E2E_CACHE:-}" ]; then
    if [ -n "${XDG_CACHE_HOME:-}" ]; then SIGNALBOX_E2E_CACHE=$XDG_CACHE_HOME/signalbox-e2e; else SIGNALBOX_E2E_CACHE=/var/cache/signalbox-e2e; fi
fi
cache=$SIGNALBOX_E2E_CACHE
bin=$cache/bin
gopath=$cache/gopath
source=$gopath/src/k8s.io/kubernetes
state=${SIGNALBOX_E2E_STATE:-/var/tmp/signalbox-e2e}
run=$state/run
logs=$state/logs
keys=$run/keys
export SIGNALBOX_E2E_CACHE SIGNALBOX_E2E_STATE=$state CNI=${CNI:-ptp}

version=1.20.2
binaries="kubelet kube-controller-manager kube-scheduler kube-proxy kube-apiserver"

fail() { echo "e2e cluster: $*" >&2; exit 1; }

# One network namespace each for the control plane, two nodes and three hosts outside, on one bridge. There is no default route
# anywhere and no way into the machine's own namespace: what is sent stays here. Addresses outside are from documentation ranges.
prefix=sbx
control=$prefix-control
control_address=172.30.0.1
nodes="node1 node2"
outsiders="database users internet"
pods=10.244.0.0/16
services=10.96.0.0/16
dns=10.96.0.10

node_address() { echo "172.30.0.1${1#node}"; }
node_pods() { echo "10.244.${1#node}.0/24"; }
outside_address() {
    case $1 in database) echo 198.51.100.20 ;; users) echo 198.51.100.100 ;; internet) echo 203.0.113.10 ;; esac
}
outside_port() { # its place on the bridge
    case $1 in database) echo 172.30.0.101 ;; users) echo 172.30.0.102 ;; internet) echo 172.30.0.103 ;; esac
}

inside() { # NAMESPACE COMMAND…: with the network namespace alone changed
    local name=$1; shift
    nsenter --net="/run/netns/$prefix-$name" -- "$@"
}
on_node() { # NODE COMMAND…: as a process of the node, with its mounts, processes and name
    local pid; pid=$(first_process "$1"); shift
    nsenter --target "$pid" --mount --net --pid --uts -- "$@"
}
first_process() { # the machine's id of a machine's first process; up.sh notes its parent
    local parent; read -r parent _ < "$run/$1.pid"
    tr -d ' ' < "/proc/$parent/task/$parent/children"
}
kubectl_admin() { inside control kubectl --kubeconfig="$keys/admin.conf" --cache-dir="$run/kubectl" "$@"; }

# All processes of a machine live in control groups of its name, so that down.sh finds each of them.
controllers() { local name; for name in cpu cpuacct cpuset memory devices freezer blkio pids systemd unified; do [ -d "/sys/fs/cgroup/$name" ] && echo "$name"; done; }
groups="node1 node2 control"
make_groups() {
    local controller path=
    for controller in $(controllers); do
        path=/sys/fs/cgroup/$controller/$prefix-$1
        mkdir -p "$path"
        if [ "$controller" = cpuset ]; then
            # A new set is empty, and nothing can live in it.
            cat /sys/fs/cgroup/cpuset/cpuset.cpus > "$path/cpuset.cpus"
            cat /sys/fs/cgroup/cpuset/cpuset.mems > "$path/cpuset.mems"
            echo 1 > "$path/cgroup.clone_children"
        fi
    done
}
join_groups() {
    local controller
    for controller in $(controllers); do
        mkdir -p "/sys/fs/cgroup/$controller/$prefix-$1"
        echo $$ > "/sys/fs/cgroup/$controller/$prefix-$1/cgroup.procs"
    done
}

wait_for() { # SECONDS WHAT COMMAND…: until the command succeeds
    local end=$(($(date +%s) + $1)) what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || fail "$what: not in time; see $logs"
        sleep 0.1
    done
}
