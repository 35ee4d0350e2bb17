#!/bin/bash
# An authority for this one cluster, and a key with a certificate and a kubeconfig for each of its parts.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
mkdir -p "$keys"
chmod 700 "$keys"
cd "$keys"

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
certify() { # NAME SUBJECT EXTENSION…
    local name=$1 subject=$2; shift 2
    key "$name"
    openssl req -new -key "$name.key" -subj "$subject" \
        | openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 30 -extfile <(printf '%s\n' "$@") -out "$name.crt" 2>/dev/null
}
client() { # NAME SUBJECT
    certify "$1" "$2" extendedKeyUsage=clientAuth
    local settings=(kubectl config --kubeconfig="$1.conf")
    "${settings[@]}" set-cluster e2e --server="https://$control_address:6443" --certificate-authority=ca.crt --embed-certs >/dev/null
    "${settings[@]}" set-credentials "$1" --client-certificate="$1.crt" --client-key="$1.key" --embed-certs >/dev/null
    "${settings[@]}" set-context e2e --cluster=e2e --user="$1" >/dev/null
    "${settings[@]}" use-context e2e >/dev/null
}

key ca
openssl req -x509 -new -key ca.key -days 30 -subj /CN=signalbox-e2e -out ca.crt
certify apiserver /CN=kube-apiserver extendedKeyUsage=serverAuth \
    "subjectAltName=IP:$control_address,IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
certify kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client extendedKeyUsage=clientAuth
client admin /O=system:masters/CN=admin
client controller-manager /CN=system:kube-controller-manager
client scheduler /CN=system:kube-scheduler
client proxy /CN=system:kube-proxy
for name in $nodes; do
    client "$name" "/O=system:nodes/CN=system:node:$name"
    certify "$name-serving" "/O=system:nodes/CN=system:node:$name" extendedKeyUsage=serverAuth "subjectAltName=IP:$(node_address "$name"),DNS:$name"
done
key serviceaccounts
openssl pkey -in serviceaccounts.key -pubout -out serviceaccounts.pub
