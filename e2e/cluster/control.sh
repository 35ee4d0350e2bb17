#!/bin/bash
# The control plane's first process: etcd, the API server, and the two that work through it.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
join_groups control
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
hostname control
mkdir -m 700 "$run/control/etcd"

etcd --name e2e --data-dir "$run/control/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster e2e=http://127.0.0.1:2380 >> "$logs/etcd.log" 2>&1 &

"$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --advertise-address="$control_address" --secure-port=6443 \
    --service-cluster-ip-range="$services" --allow-privileged --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --feature-gates=EphemeralContainers=true \
    --client-ca-file="$keys/ca.crt" --tls-cert-file="$keys/apiserver.crt" --tls-private-key-file="$keys/apiserver.key" \
    --kubelet-certificate-authority="$keys/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --kubelet-client-certificate="$keys/kubelet-client.crt" --kubelet-client-key="$keys/kubelet-client.key" \
    --service-account-issuer=https://kubernetes.default.svc --api-audiences=https://kubernetes.default.svc \
    --service-account-key-file="$keys/serviceaccounts.pub" --service-account-signing-key-file="$keys/serviceaccounts.key" \
    >> "$logs/apiserver.log" 2>&1 &

# Started before the API server is ready, the other two would fall back to long pauses.
until [ "$(kubectl --kubeconfig="$keys/admin.conf" --cache-dir=/run/kubectl get --raw /readyz 2>/dev/null)" = ok ]; do sleep 0.1; done
always() { while :; do "$@"; sleep 0.5; done; }
always "$bin/kube-controller-manager" --kubeconfig="$keys/controller-manager.conf" --use-service-account-credentials \
    --service-account-private-key-file="$keys/serviceaccounts.key" --root-ca-file="$keys/ca.crt" \
    --leader-elect=false --port=0 --bind-address=127.0.0.1 >> "$logs/controller-manager.log" 2>&1 &
always "$bin/kube-scheduler" --kubeconfig="$keys/scheduler.conf" --leader-elect=false --port=0 --bind-address=127.0.0.1 \
    >> "$logs/scheduler.log" 2>&1 &

# The first process has to wait for orphans.
while :; do wait -n; sleep 1; done
