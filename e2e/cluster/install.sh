#!/bin/bash
# Makes everything that up.sh needs, from Debian's packages alone: no registry, no download of binaries. Debian 12 has the source of
# Kubernetes 1.20.2 but only packages its client, so the five servers are compiled: four to seven minutes on two cores, once.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

say() { echo "e2e cluster: $* ($SECONDS s)"; }

packages="etcd-server containerd runc containernetworking-plugins iptables conntrack socat ethtool iproute2 procps openssl util-linux"
builders="golang-go golang-github-modern-go-reflect2-dev gcc libc6-dev dpkg-dev"
# Another recipe makes other binaries: those of an older one are made again.
recipe=2

missing() { local name; for name in "$@"; do dpkg -s "$name" >/dev/null 2>&1 || echo "$name"; done; }

[ "$(cat "$bin/recipe" 2>/dev/null)" = $recipe ] || for name in $binaries; do rm -f "$bin/$name"; done

want=$(missing $packages)
command -v kubectl >/dev/null || want="$want kubernetes-client"
built=yes
for name in $binaries pause.tar; do [ -s "$bin/$name" ] || built=no; done
[ $built = yes ] || want="$want $(missing $builders)"
want=$(echo $want)
if [ -n "$want" ]; then
    command -v apt-get >/dev/null || fail "missing: $want. This machine has no apt-get: install what these Debian packages hold by other means"
    [ "$(id -u)" = 0 ] || fail "missing: $want. To install them needs root"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $want
    say "installed $want"
fi
[ $built = yes ] && exit 0

mkdir -p "$bin"
exec 9> "$cache/lock"; flock 9 # two at once would write into each other's build

if [ ! -d "$source" ]; then
    # A package list of its own: the machine's sources need not name source packages. apt checks signature and digests.
    lists=$cache/apt; mkdir -p "$lists/lists/partial" "$cache/download" "$(dirname "$source")"
    mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||:)
    [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" && $2 ~ /^http/ {print $2; exit}' /etc/apt/sources.list 2>/dev/null ||:)
    [ -n "$mirror" ] || fail "cannot see which Debian mirror this machine uses: neither debian.sources nor sources.list names one"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" > "$lists/sources.list"
    own=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$lists/lists")
    cd "$cache/download"
    apt-get "${own[@]}" update -q
    apt-get "${own[@]}" source -q --download-only kubernetes
    rm -rf "kubernetes-$version"
    tar xf kubernetes_1.20*.orig.tar.gz
    mv "kubernetes-$version" "$source"
    say "fetched the source of Kubernetes $version"
fi

cd "$source"
go=$(command -v go || echo /usr/lib/go/bin/go)
export GOPATH=$gopath GOCACHE=$cache/gocache GO111MODULE=off CGO_ENABLED=0 GOFLAGS= GOTOOLCHAIN=local

# reflect2 walks Go's maps by their layout, which Go 1.18 changed: with the one of 2018 the API server ends at the first object of a
# CustomResourceDefinition. Debian has the one that knows both.
reflect2=github.com/modern-go/reflect2
cp /usr/share/gocode/src/$reflect2/* "vendor/$reflect2/"
(cd "vendor/$reflect2" && for name in *.go *.s; do [ -e "/usr/share/gocode/src/$reflect2/$name" ] || rm "$name"; done)

# The release tarballs leave out one generated file that the API server compiles in.
if [ ! -s pkg/generated/openapi/zz_generated.openapi.go ]; then
    "$go" build -o "$bin/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    # Each folder with a type that asks for it; staging is read through its links in vendor, as Kubernetes' own make does.
    folders=$(grep -rl --include='*.go' '^// *+k8s:openapi-gen=' api cmd pkg plugin staging/src test 2>/dev/null \
        | sed 's#^staging/src/#vendor/#' | grep -vE '^vendor/k8s.io/(code-generator|sample-apiserver)/' \
        | xargs -n1 dirname | LC_ALL=C sort -u | sed 's#^#k8s.io/kubernetes/#' | paste -sd, -)
    "$bin/openapi-gen" --logtostderr --input-dirs "$folders" --output-package k8s.io/kubernetes/pkg/generated/openapi \
        --output-file-base zz_generated.openapi --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt \
        --report-filename "$bin/violations.report"
    # Kubernetes keeps a list of what the generator complains about: the same list means that nothing was left out.
    cmp "$bin/violations.report" api/api-rules/violation_exceptions.list || fail "the generated OpenAPI is not what Kubernetes $version has"
    say "generated its OpenAPI"
fi

stamp="-s -w"
for package in vendor/k8s.io/component-base vendor/k8s.io/client-go/pkg; do
    stamp="$stamp -X k8s.io/kubernetes/$package/version.gitVersion=v$version"
    stamp="$stamp -X k8s.io/kubernetes/$package/version.gitMajor=1 -X k8s.io/kubernetes/$package/version.gitMinor=20"
done
for name in $binaries; do
    [ -s "$bin/$name" ] && continue
    "$go" build -tags providerless -ldflags="$stamp" -o "$bin/$name.new" "./cmd/$name"
    mv "$bin/$name.new" "$bin/$name"
    say "built $name"
done
echo $recipe > "$bin/recipe"

# The container that holds a pod's namespaces open: the one image that a node needs before any other.
if [ ! -s "$bin/pause.tar" ]; then
    work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
    mkdir "$work/root"
    gcc -Os -static -s -DVERSION=1 -o "$work/root/pause" build/pause/linux/pause.c
    "$scripts/image.sh" signalbox.local/pause:1 "$work/root" /pause "$bin/pause.tar"
    say "made the pause image"
fi
rm -rf "$cache/download"
