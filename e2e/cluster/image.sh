#!/bin/bash
# image.sh NAME FOLDER ENTRYPOINT OUTPUT: the folder as an image of one layer, in an OCI layout that `ctr images import` reads.
set -euo pipefail
name=$1 folder=$2 entry=$3 output=$4
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work/blobs/sha256"

digest=
keep() { # FILE -> $digest, and the file among the blobs
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    mv "$1" "$work/blobs/sha256/$digest"
}
size() { stat -c %s "$work/blobs/sha256/$1"; }

tar --create --file "$work/layer" --directory "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 .
keep "$work/layer"; layer=$digest
printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["%s"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$entry" "$layer" > "$work/config"
keep "$work/config"; config=$digest
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
    "$config" "$(size "$config")" "$layer" "$(size "$layer")" > "$work/manifest"
keep "$work/manifest"; manifest=$digest
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"%s"}}]}' \
    "$manifest" "$(size "$manifest")" "$name" > "$work/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' > "$work/oci-layout"
tar --create --file "$output.new" --directory "$work" --sort=name --owner=0 --group=0 --mtime=@0 oci-layout index.json blobs
mv "$output.new" "$output"
