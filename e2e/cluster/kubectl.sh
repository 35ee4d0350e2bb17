#!/bin/bash
# kubectl in the running cluster, as its administrator.
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
kubectl_admin "$@"
