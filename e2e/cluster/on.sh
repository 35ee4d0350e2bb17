#!/bin/bash
# on.sh node1|node2|control COMMAND…: as a process of that machine. on.sh database|users|internet COMMAND…: in that host's network.
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
case $1 in
    node1 | node2 | control) on_node "$@" ;;
    # In place of this shell: whoever ends it ends the command.
    *) host=$1; shift; exec nsenter --net="/run/netns/$prefix-$host" -- "$@" ;;
esac
