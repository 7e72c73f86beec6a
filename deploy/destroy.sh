#!/bin/sh
# Deletes the service's stack and then the network's. All keys and values are gone with it. The
# image repository stays: aws ecr delete-repository.
#
# YES=1        does not ask
. "$(dirname -- "$0")/lib.sh"
need_aws

take_down() {
    status=$(stack_status "$1")
    if [ "$status" = ABSENT ]; then
        say "$1: is not there"
        return
    fi
    say "$1:"
    STACK_ID=$(call cloudformation describe-stacks --stack-name "$1" --query 'Stacks[0].StackId' --output text) ||
        fail "$(reason)"
    known=$(last_event "$STACK_ID")
    call cloudformation delete-stack --stack-name "$1" || fail "  $(reason)"
    watch_stack "$known"
    case $STATUS in
    DELETE_COMPLETE | ABSENT) say "  ${GREEN}gone$PLAIN" ;;
    *) fail "stack $1 is $STATUS: see its events above; DeletionProtection=true keeps the load balancer" ;;
    esac
}

if [ -z "${YES:-}" ]; then
    [ -t 0 ] || missing "refusing to delete without being asked on a terminal: YES=1 make destroy"
    printf 'Delete %s and all its data in account %s? Type its name: ' "$STACK" "$ACCOUNT"
    read -r answer
    [ "$answer" = "$STACK" ] || missing "not deleted"
fi
take_down "$STACK"
[ -n "${VPC_ID:-}" ] || take_down "$NETWORK_STACK"
