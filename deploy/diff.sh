#!/bin/sh
# What `make deploy` would change, property by property, and where there are backups, what `make backup`
# would change as the service is now. Changes nothing: the change sets it makes are deleted again. No
# changes is a success.
#
# IMAGE_URI    the image to compare with [the one that runs; else a placeholder]
# DRIFT=1      compare with what is really there, not with what was deployed last
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/remember.sh"
. "$(dirname -- "$0")/change.sh"
. "$(dirname -- "$0")/follow.sh"
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
        say "  make $TARGET asks before it takes away:"
        tell_guarded
    fi
    drop_change_set
    CHANGE_SET=
}

# The stack of backups, where there is one of this environment.
difference_of_backups() {
    is_backup || return 0
    known=$(stack_tag "$BACKUP_STACK" environment)
    if [ "${known:-$ENVIRONMENT}" != "$ENVIRONMENT" ]; then
        say "$BACKUP_STACK:"
        say "  of environment $known, which make backup refuses"
        return
    fi
    # shellcheck disable=SC2034  # change.sh tells of both
    TARGET=backup UNDO="aws cloudformation delete-stack --stack-name $BACKUP_STACK"
    derive
    values=$(parameters backup)
    difference "$BACKUP_STACK" "$BACKUP_TEMPLATE" "$values" "$(tags "$BACKUP_STACK")"
}

# What SET names may be a parameter of the backups, where there are any.
read_stack "$BACKUP_STACK"
ALSO=
if is_backup; then
    read_template backup "$BACKUP_TEMPLATE"
    # shellcheck disable=SC2034  # remember.sh looks there
    ALSO=backup
fi
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
difference_of_backups
