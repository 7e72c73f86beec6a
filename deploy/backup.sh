#!/bin/sh
# Brings STACK-backup, which copies all keys of the service to S3 on a schedule, to what its template
# and parameters say. The service is there before. What the two share is taken from the service's stack
# (follow.sh), so this is run again when `make deploy` says that the backups are behind.
#
# REPLACE=1    goes on where something that holds data is replaced or removed
# KEEP=1       keeps what a failed first try leaves, to look at
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/remember.sh"
. "$(dirname -- "$0")/change.sh"
. "$(dirname -- "$0")/watch.sh"
. "$(dirname -- "$0")/bring.sh"
. "$(dirname -- "$0")/follow.sh"
need_aws
CLEANUP=drop_change_set
TARGET=backup
UNDO="aws cloudformation delete-stack --stack-name $BACKUP_STACK"

# The service is there and at rest, and the stack of this name is not another's.
check_stacks() {
    case $(seen_status "$STACK") in
    ABSENT | REVIEW_IN_PROGRESS) missing "stack $STACK is not there: make deploy comes first" ;;
    *_IN_PROGRESS) fail "stack $STACK is $(seen_status "$STACK"): wait until it is done" ;;
    esac
    [ -n "$(stack_output "$STACK" ClusterName)" ] || missing "stack $STACK is no service that is up: make deploy comes first"
    known=$(stack_tag "$BACKUP_STACK" environment)
    [ "${known:-$ENVIRONMENT}" = "$ENVIRONMENT" ] ||
        missing "stack $BACKUP_STACK is of environment $known, not $ENVIRONMENT: STACK= under another name is meant"
    case $(seen_status "$BACKUP_STACK") in
    ABSENT | REVIEW_IN_PROGRESS) ;;
    *) is_backup || missing "stack $BACKUP_STACK is there and is none of backups" ;;
    esac
}

# What would fail only once the stack is there, if at all.
check_reach() {
    [ -n "$(setting backup ServerUrl)" ] ||
        missing "the outputs of $STACK do not tell its API's URL: give SET=ServerUrl=https://..., or DomainName to make deploy"
    clients="$(stack_parameter "$STACK" ClientCidr) $(stack_parameter "$STACK" ClientIpv6Cidr)"
    case $clients in
    ' ' | '0.0.0.0/0 ::/0') ;;
    *) say "the API takes requests from $clients alone: the task of the backups has to come from there, too" ;;
    esac
}

find_stacks
read_stack "$BACKUP_STACK"
check_stacks
derive
check_set backup
check_reach
values=$(parameters backup)
bring_up "$BACKUP_STACK" "$BACKUP_TEMPLATE" "$values" "$(tags "$BACKUP_STACK")"
read_stack "$BACKUP_STACK"
say "backups: $(stack_output "$BACKUP_STACK" Place), $(setting backup Schedule)"
say "log: aws logs tail $(stack_output "$BACKUP_STACK" LogGroupName) --since 1d"
