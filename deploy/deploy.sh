#!/bin/sh
# Brings the network (unless VPC_ID is given) and the service to what the templates and parameters
# say, and prints the API's URL. CloudFormation undoes what fails.
#
# IMAGE_URI    the image to run; `make deploy` builds and pushes one when it is not given
. "$(dirname -- "$0")/lib.sh"
[ -n "${IMAGE_URI:-}" ] || missing "IMAGE_URI is missing: make deploy builds and pushes an image, or give one"
need_aws
CLEANUP=drop_change_set

bring_up() {
    say "$1:"
    if [ "$(stack_status "$1")" = ROLLBACK_COMPLETE ]; then
        say "  removing what is left of an earlier try"
        call cloudformation delete-stack --stack-name "$1" || fail "$(reason)"
        call cloudformation wait stack-delete-complete --stack-name "$1" || fail "$(reason)"
    fi
    change_set "$@"
    if [ -z "$CHANGE_SET" ]; then
        say "  no changes"
        return
    fi
    show_changes
    known=$(last_event "$STACK_ID")
    started=$(date +%s)
    call cloudformation execute-change-set --change-set-name "$CHANGE_SET" || fail "  not started: $(reason)"
    CHANGE_SET='' MADE_STACK=''
    trap 'say "stopped watching; the deployment goes on: aws cloudformation describe-stack-events --stack-name $STACK_ID"; exit 130' INT
    watch_stack "$known"
    trap 'exit 130' INT
    case $CHANGE_TYPE/$STATUS in
    CREATE/CREATE_COMPLETE | UPDATE/UPDATE_COMPLETE)
        say "  ${GREEN}done in $(($(date +%s) - started)) s$PLAIN"
        ;;
    *)
        say "  ${RED}failed, and is $STATUS$PLAIN; first cause:"
        awk -F '\t' '$3 ~ /_FAILED$/ { print "    " $4 " (" $5 "): " $6; exit }' "$WORK/all"
        fail "stack $1: deployment failed ($STATUS)"
        ;;
    esac
}

[ -n "${VPC_ID:-}" ] || bring_up "$NETWORK_STACK" "$NETWORK_TEMPLATE" "$(network_parameters)"
find_network
find_count
bring_up "$STACK" "$SERVICE_TEMPLATE" "$(service_parameters)"
say "API: $(stack_output "$STACK" ApiUrl)"
secret=$(stack_output "$STACK" HttpTokenSecret)
[ -z "$secret" ] ||
    say "token: aws secretsmanager get-secret-value --secret-id $secret --query SecretString --output text"
