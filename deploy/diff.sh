#!/bin/sh
# What `make deploy` would change, property by property. Changes nothing: the change sets it makes
# are deleted again. No changes is a success.
#
# IMAGE_URI    the image to compare with [the one that runs; else a placeholder]
# DRIFT=1      compare with what is really there, not with what was deployed last
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/remember.sh"
. "$(dirname -- "$0")/change.sh"
need_aws
CLEANUP=drop_change_set

difference() {
    say "$1:"
    change_set "$@"
    if [ -z "$CHANGE_SET" ]; then
        say "  no changes"
        return
    fi
    [ "$CHANGE_TYPE" = UPDATE ] || say "  a new stack"
    show_changes
    if [ -s "$WORK/guarded" ]; then
        say "  make deploy asks before it takes away:"
        sed 's/^/    /' "$WORK/guarded"
    fi
    drop_change_set
    CHANGE_SET=
}

recall
find_owner
check_settings
if [ -n "$OWN_NETWORK" ]; then
    values=$(network_parameters)
    difference "$NETWORK_STACK" "$NETWORK_TEMPLATE" "$values" "$(tags "$NETWORK_STACK")"
    if [ "$CHANGE_TYPE" = CREATE ]; then
        say "$STACK:"
        say "  a new stack, in full: its VPC has to exist before AWS can tell"
        exit 0
    fi
fi
find_network
IMAGE_URI=${IMAGE_URI:-$(stack_parameter "$STACK" ImageUri)}
: "${IMAGE_URI:=gossipykv:latest}"
values=$(service_parameters)
difference "$STACK" "$SERVICE_TEMPLATE" "$values" "$(tags "$STACK")"
