#!/bin/sh
# Deletes the stack of backups, which needs the other two, then the service's and the network's. All
# keys and values are gone with it; the backups in their bucket stay, and so does the image repository
# (aws ecr delete-repository).
#
# YES=1        does not ask
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/remember.sh"
. "$(dirname -- "$0")/watch.sh"
. "$(dirname -- "$0")/follow.sh"
need_aws

# Says what protects stack $1. Once the service is deleted the data is gone, so this comes first.
check_protection() {
    [ "$(seen "$1" status '' | cut -f 3)" != true ] || echo "stack $1 has termination protection"
    balancer=$(stack_resource "$1" LoadBalancer)
    [ -n "$balancer" ] || return 0
    protected=$(call elbv2 describe-load-balancer-attributes --load-balancer-arn "$balancer" --output text \
        --query "Attributes[?Key=='deletion_protection.enabled'].Value | [0]") || return 0
    [ "$protected" != true ] || echo "the load balancer of stack $1 has deletion protection"
}

take_down() {
    if [ "$(seen_status "$1")" = ABSENT ]; then
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
    *) fail "stack $1 is $STATUS: see its events above, and docs/runbook.md for the way out" ;;
    esac
}

need_folder
read_stack "$STACK"
read_stack "$NETWORK_STACK"
read_stack "$BACKUP_STACK"
find_environment
OURS=
! is_backup || OURS=$BACKUP_STACK

WHOLE=yes
[ -z "${VPC_ID:-}" ] || WHOLE=
# Another service in this network needs it still.
vpc=$(stack_output "$NETWORK_STACK" VpcId)
if [ -n "$WHOLE" ] && [ -n "$vpc" ]; then
    others=$(call cloudformation describe-stacks --output text \
        --query "Stacks[?StackName!='$STACK' && StackName!='$OURS' && (Parameters || \`[]\`)[?ParameterKey=='VpcId' && ParameterValue=='$vpc']].StackName") ||
        fail "stacks cannot be listed: $(reason)"
    if [ -n "$others" ] && [ "$others" != None ]; then
        say "$NETWORK_STACK stays: it is the network of $others too"
        WHOLE=
    fi
fi

STACKS="$OURS $STACK"
[ -z "$WHOLE" ] || STACKS="$STACKS $NETWORK_STACK"
for each in $STACKS; do
    [ "$(seen_status "$each")" = ABSENT ] || check_protection "$each"
done >"$WORK/protected"
if [ -s "$WORK/protected" ]; then
    cat "$WORK/protected" >&2
    missing "nothing is deleted: make deploy SET=DeletionProtection=false, then make destroy; what somebody
has protected by hand: aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name ..."
fi

if [ -z "${YES:-}" ]; then
    [ -t 0 ] || missing "refusing to delete without being asked on a terminal: YES=1 make destroy"
    asked "Delete ${OURS:+$OURS, }$STACK and all its data in $WHERE? Type $STACK: " "$STACK" || missing "not deleted"
fi
if [ -n "$OURS" ]; then
    take_down "$OURS"
    say "  the backups stay: $(stack_output "$OURS" Place)"
fi
take_down "$STACK"
[ -z "$WHOLE" ] || take_down "$NETWORK_STACK"
