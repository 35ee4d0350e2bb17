#!/bin/bash
# node.sh NAME: a node's first process: containerd, the kubelet and kube-proxy, with mounts that no other node sees.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
name=$1
address=$(node_address "$name")
mine=$run/$name
join_groups "$name/system"
mount --make-rprivate /
hostname "$name"

# /sys shows the interfaces of the namespace that it was mounted in: a new one, with the control groups that there are, and a bpf file
# system that is this node's alone, so that pins of two nodes of one machine never meet.
mkdir -p "$mine/cgroup"
mount --rbind /sys/fs/cgroup "$mine/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$mine/cgroup" /sys/fs/cgroup
umount -l "$mine/cgroup"
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns /run/cni
for folder in /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
    mkdir -p "$folder" "$mine$folder"
    mount --bind "$mine$folder" "$folder"
done
# Last: with shared mounts the lazy unmount above would take the control groups away, too.
mount --make-rshared /

range=$(printf '"ipam":{"type":"host-local","dataDir":"/run/cni-addresses","ranges":[[{"subnet":"%s"}]],"routes":[{"dst":"0.0.0.0/0"}]}' "$(node_pods "$name")")
case $CNI in
    ptp) first="{\"type\":\"ptp\",\"mtu\":1500,$range}" ;;
    bridge)
        first="{\"type\":\"bridge\",\"bridge\":\"cni0\",\"isGateway\":true,\"hairpinMode\":true,$range}"
        # Between two pods of one bridge a Service's address is translated back only if iptables see what the bridge forwards.
        sysctl -qw net.bridge.bridge-nf-call-iptables=1
        ;;
    *) fail "CNI is $CNI; it can be ptp or bridge" ;;
esac
cat > /run/cni/e2e.conflist <<JSON
{"cniVersion": "0.4.0", "name": "e2e", "plugins": [$first, {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}]}
JSON

cat > /run/containerd.toml <<TOML
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "signalbox.local/pause:1"
disable_apparmor = true
# To lower a process' score for the killer of the out-of-memory takes a capability that root has not on every machine.
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/run/cni"
TOML

: > /run/resolv.conf
cat > /run/kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $keys/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $keys/$name-serving.crt
tlsPrivateKeyFile: $keys/$name-serving.key
cgroupDriver: cgroupfs
cgroupRoot: /$prefix-$name
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [$dns]
resolvConf: /run/resolv.conf
# A full disk of the machine is no reason to evict the test's pods.
evictionHard: {memory.available: 50Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 2s
syncFrequency: 10s
serializeImagePulls: false
featureGates: {EphemeralContainers: true}
YAML

always() { while :; do "$@"; sleep 0.5; done; }
always containerd --config /run/containerd.toml >> "$logs/$name-containerd.log" 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.1; done
ctr --namespace k8s.io images import "$bin/pause.tar" >> "$logs/$name-images.log" 2>&1
always "$bin/kubelet" --config=/run/kubelet.yaml --kubeconfig="$keys/$name.conf" --hostname-override="$name" --node-ip="$address" \
    --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock \
    --pod-infra-container-image=signalbox.local/pause:1 --root-dir=/var/lib/kubelet --v=2 >> "$logs/$name-kubelet.log" 2>&1 &
always "$bin/kube-proxy" --kubeconfig="$keys/proxy.conf" --hostname-override="$name" --bind-address="$address" --proxy-mode=iptables \
    --cluster-cidr="$pods" --iptables-min-sync-period=0s --conntrack-max-per-core=0 --conntrack-min=0 \
    --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 >> "$logs/$name-proxy.log" 2>&1 &

while :; do wait -n; sleep 1; done
